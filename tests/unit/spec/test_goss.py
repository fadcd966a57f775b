"""A goss file becomes checks that load, and what does not is listed with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import load
from hostlab.spec.goss import import_goss
from hostlab.spec.importing import Imported

pytestmark = pytest.mark.unit

EVERYTHING = (Path(__file__).parents[2] / "data" / "goss.yaml").read_text()


def read(text: str) -> Imported:
    return import_goss(text, file="goss.yaml")


def checks(text: str) -> list[dict[str, Any]]:
    found = read(text)
    load(found.text, file="lab.yaml")
    node = yaml.safe_load(found.text)["nodes"]["host"] or {"checks": []}
    said: list[dict[str, Any]] = node["checks"]
    return said


def notes(text: str) -> list[str]:
    return [f"{note.where}: {note.message}" for note in read(text).notes]


def test_every_resource_becomes_checks_or_a_note() -> None:
    kinds = [next(iter(check)) for check in checks(EVERYTHING)]
    assert set(kinds) == {
        "reaches", "not_reaches", "command", "file", "group", "http", "address", "interface",
        "sysctl", "mount", "package", "listens", "process", "service", "user",
    }  # fmt: skip
    assert len(kinds) == 38
    assert len(notes(EVERYTHING)) == 21


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("file: {/a: {exists: true}}", [{"file": "/a"}]),
        ("file: {/a: {exists: false}}", [{"file": {"path": "/a", "is": "absent"}}]),
        (
            "file: {/a: {exists: true, size: 5}}",
            [{"file": "/a"}, {"command": 'test "$(stat -Lc %s /a)" -eq 5'}],
        ),
        ("package: {vim: {installed: true}}", [{"package": "vim"}]),
        ("service: {ssh: {running: false}}", [{"service": {"name": "ssh", "running": False}}]),
        ("port: {'tcp:22': {listening: true}}", [{"listens": 22}]),
        ("port: {'udp:53': {listening: false}}", [{"listens": "53/udp", "never": "1s"}]),
        ("command: {id: {exit-status: 0}}", [{"command": "id"}]),
        (
            "command: {x: {exec: false, exit-status: 1, timeout: 2500}}",
            [{"command": {"run": "false", "status": 1}, "within": "2.5s"}],
        ),
        ("dns: {a b: {resolvable: true}}", [{"command": "getent ahosts 'a b'"}]),
        ("addr: {'tcp://[::1]:80': {reachable: true}}", [{"reaches": "[::1]:80"}]),
        ("user: {root: {exists: true, uid: 0}}", [{"user": {"name": "root", "uid": 0}}]),
        ("kernel-param: {kernel.ostype: {value: $HOME}}", [{"sysctl": {"kernel.ostype": "$HOME"}}]),
        (
            "http: {'http://a.example/': {status: 404, no-follow-redirects: true}}",
            [{"http": {"url": "http://a.example/", "status": 404}}],
        ),
        ('{"process": {"sshd": {"running": true}}}', [{"process": "sshd"}]),
    ],
)
def test_a_resource(said: str, wanted: list[dict[str, Any]]) -> None:
    assert checks(said) == wanted
    assert notes(said) == []


@pytest.mark.parametrize(
    ("stdout", "wanted"),
    [
        ("[a, b]", {"stdout": ["a", "b"]}),
        ("['/^a$/']", {"matches": "(?m:^a$)"}),
        ("['!a']", {"lacks": "a"}),
        (r"['\!a', '\/b/']", {"stdout": ["!a", "/b/"]}),
        ("{have-suffix: z.}", {"matches": r"z\.\s*\Z"}),
        ("{equal: a}", {"matches": r"\Aa\s*\Z"}),
        ("{lt: 5}", {"below": 5}),
        ("{not: {contain-substring: x}}", {"lacks": "x"}),
        ("{or: [a, {have-prefix: b}]}", {"matches": r"(?:a)|(?:\Ab)"}),
    ],
)
def test_a_matcher(stdout: str, wanted: dict[str, Any]) -> None:
    text = f"command: {{x: {{exit-status: 0, stdout: {stdout}}}}}"
    assert checks(text) == [{"command": {"run": "x"} | wanted}]
    assert notes(text) == []


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ("process: {'a b': {running: true}}", "1:11: process is left out: `a b` is not a name"),
        ("command: {x: {exit-status: 0, stdout: ['/(/']}}", "is not a regular expression"),
        ("user: {a: {exists: true, foo: 1}}", "1:26: `foo` was not understood"),
        ("file: {/a: {exists: true, size: {foo: 1}}}", "`size` was not understood"),
        ("gossfile: {a.yaml: {}}", "`gossfile` is left out"),
    ],
)
def test_what_cannot_be_said_is_a_note_with_its_place(said: str, note: str) -> None:
    assert any(note in each for each in notes(said)), notes(said)
    load(read(said).text, file="lab.yaml")


def test_what_is_left_out_as_a_whole_is_one_note() -> None:
    said = "{status: 200, method: POST, allow-insecure: true, timeout: 500, body: ['/a/']}"
    assert notes(f"http: {{'http://a': {said}}}") == [
        "goss.yaml:1:8: http `http://a` is left out: its method is POST"
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "the file is empty"),
        ("services: {a: }", "not a goss file"),
        ("file: {'/{{ .Vars.x }}': {exists: true}}", "a template is not filled in here"),
        ("file: [", "expected"),
    ],
)
def test_what_is_no_goss_file_is_refused(said: str, message: str) -> None:
    with pytest.raises(SpecErrors) as refused:
        read(said)
    assert message in str(refused.value)


@given(st.integers(0, len(EVERYTHING) - 1), st.integers(0, 40), st.text(max_size=3))
def test_whatever_is_damaged_loads_or_is_refused_with_a_place(
    start: int, length: int, put: str
) -> None:
    text = EVERYTHING[:start] + put + EVERYTHING[start + length :]
    try:
        found = read(text)
    except SpecErrors as errors:
        refused = errors.errors
    else:
        refused = ()
        load(found.text, file="lab.yaml")
    assert all(error.where for error in refused)

"""Job files that nobody should write: too long, too deep, of the wrong bytes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from hostlab.errors import SpecError
from hostlab.jobs.snapshot import capture, decode, encode, restore
from hostlab.spec.condition import parse_condition, print_condition
from hostlab.spec.job import Match, Operator
from hostlab.spec.search import select_files
from hostlab.spec.upstart import MAX_STANZAS, find_errors, job_name, load_conf
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

DEEP = 10_000


def failure(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_conf(text, file="t.conf", name="t")
    assert str(find_errors(text, file="t.conf")[0]) == str(caught.value)
    return f"{caught.value.where}: {caught.value.message}"


def test_an_expression_nested_10_000_deep() -> None:
    text = "(" * DEEP + "a" + " and b)" * DEEP
    job = load_conf(f"start on {text}\n", file="t.conf", name="t")
    assert job.start_on is not None
    assert job.start_on.nodes[:3] == (Match("a"), Match("b"), Operator.AND)
    assert parse_condition(print_condition(job.start_on)) == job.start_on
    world = World()
    world.load("t", f"start on {text}\nexec x\n")
    world.emit("a")
    world.engine = restore(decode(encode(capture(world.engine))))
    world.emit("b")
    assert world.status("t") == "start/spawned"


def test_an_expression_nested_10_000_deep_that_is_never_closed() -> None:
    assert failure(f"start on {'(' * DEEP}a\n") == (
        f"t.conf:1:{9 + DEEP}: mismatched parentheses: never closed"
    )
    assert failure(f"start on a{')' * DEEP}\n") == (
        "t.conf:1:11: mismatched parentheses: never opened"
    )


def test_an_environment_of_one_megabyte() -> None:
    value = "x" * 1_000_000
    world = World()
    world.load("t", f"env BIG={value}\nexport BIG\nstart on go\nexec x\n")
    world.emit("go", MORE=value)
    world.engine = restore(decode(encode(capture(world.engine))))
    environment = dict(world.spawns()[0].environment)
    assert environment["BIG"] == environment["MORE"] == value
    assert world.event("starting")["BIG"] == value


@pytest.mark.parametrize("name", ["net/a", "../a", "..", "a/../../etc/passwd", "/abs", " ", "é\n"])
def test_names_with_slashes_and_dots_are_names_and_nothing_else(name: str) -> None:
    world = World()
    world.load(name, "instance ${I:-..}\nexec x\n")
    world.start(name, I="../../x")
    assert world.status(name, "../../x") == "start/spawned"
    assert restore(decode(encode(capture(world.engine)))).instance(name, "../../x")
    assert job_name(f"{name}.conf") == name
    chosen = select_files([("/etc/init", [f"{name}.conf"])])
    assert chosen[name].conf == ("/etc/init", f"{name}.conf")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("exec a\0b\n", "t.conf:1:7"),
        ('description "x\n\0"\n', "t.conf:2:1"),
        ("task\nscript\n  a\n  b\0\nend script\n", "t.conf:4:4"),
        ("start on (a or\n b\0)\n", "t.conf:2:3"),
        ("\0\n", "t.conf:1:1"),
        ("task\0\n", "t.conf:1:5"),
    ],
)
def test_a_nul_is_an_error_with_its_place(text: str, where: str) -> None:
    assert failure(text).startswith(f"{where}: a NUL character")


def test_a_nul_in_a_comment_is_a_comment() -> None:
    assert load_conf("# \0\ntask # \0\n", file="t.conf", name="t").task


def test_carriage_returns_are_blanks_and_a_byte_order_mark_is_nothing() -> None:
    job = load_conf("\ufeffexec a\r\nstart on (a\r\n or b)\r\n\r\n", file="t.conf", name="t")
    assert job.exec == "a"
    assert job.start_on == parse_condition("a or b")
    assert failure("\ufefffoo\n").startswith("t.conf:1:1: unknown stanza 'foo'")
    assert failure("exec \ufeff\nfoo\n").startswith("t.conf:2:1")


def test_bytes_that_are_no_utf_8_do_no_harm() -> None:
    content = b'description "caf\xe9"\nexec a \xff\nfoo\n'
    for how in ("replace", "surrogateescape"):
        assert failure(content.decode(errors=how)).startswith("t.conf:3:1: unknown stanza 'foo'")


LONG: dict[str, Callable[[int], str]] = {
    "comments": lambda lines: "# x\n" * lines,
    "a script": lambda lines: "script\n  a\n" + "  b\n" * lines + "end script\n",
    "a script without an end": lambda lines: "script\n" + "  echo a\n" * lines,
    "continued lines": lambda lines: "exec a \\\n" * lines,
    "an expression": lambda lines: "start on (a\n" + " or b\n" * lines + ")\n",
    "an open quote": lambda lines: 'description "a\n' + "b\n" * lines,
    "words": lambda lines: "emits" + " b" * lines + "\n",
    "variables": lambda lines: "".join(f"env A{n}=\n" for n in range(min(lines, MAX_STANZAS))),
    "unknown stanzas": lambda lines: "foo\n" * lines,
}  # fmt: skip


@pytest.mark.parametrize("kind", LONG)
def test_time_is_linear_in_the_number_of_lines(kind: str) -> None:
    """Ten times the lines take far less than the hundred times of a quadratic reader."""

    def seconds(lines: int) -> float:
        text = LONG[kind](lines)
        gc.disable()
        start = time.process_time()
        try:
            find_errors(text, file="t.conf")
            return time.process_time() - start
        finally:
            gc.enable()

    # What else the processor does meanwhile makes a single measurement longer.
    assert any(seconds(10_000) < 50 * max(seconds(1_000), 0.001) for _ in range(5))


def test_a_file_of_100_000_lines() -> None:
    script = load_conf(LONG["a script"](100_000), file="t.conf", name="t").script
    assert script is not None
    assert script.count("\n") == 100_001
    text = "# x\n" * 99_999 + "foo\n"
    assert failure(text).startswith("t.conf:100000:1: unknown stanza")
    assert failure("task\n" * 100_000) == (
        f"t.conf:{MAX_STANZAS + 1}:1: more than {MAX_STANZAS} stanzas"
    )

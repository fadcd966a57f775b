"""Quoting, Exec lines and variables: systemd.syntax(7) and systemd.service(5), "Command lines"."""

from __future__ import annotations

import pytest

from hostlab.jobs.command import command
from hostlab.spec.job import Command, Process
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.command_line import ExecLine, exec_lines
from hostlab.spec.systemd.environment import (
    assignments,
    expand_word,
    parse_environment_file,
)
from hostlab.spec.systemd.words import split_words
from tests.unit.spec.systemd.unit_site import service, warnings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ("a", "b", "c")),
        ("\"a b\" 'c d'", ("a b", "c d")),
        ("a\"b c\"d 'x'y", ("ab cd", "xy")),
        (r"\a\b\f\n\r\t\v\\\"\'\s", ("\a\b\f\n\r\t\v\\\"' ",)),
        (r"\x41\101\u00e9\U0001F600", ("AA\u00e9\U0001f600",)),
        (r'"it\'s" ""', ("it's", "")),
        ("", ()),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("text", ['"a', "'", r"\q", r"\x4", r"\x00", "a\\", r"\ud800"])
def test_no_words(text: str) -> None:
    with pytest.raises(Wrong):
        split_words(text)


def lines(value: str) -> tuple[ExecLine, ...]:
    return exec_lines(value, lambda word: word.replace("%i", "one two"))[0]


@pytest.mark.parametrize(
    ("value", "argvs"),
    [
        ('echo one ; echo "two two"', [("echo", "one"), ("echo", "two two")]),
        (r"echo / >/dev/null & \; ls", [("echo", "/", ">/dev/null", "&", ";", "ls")]),
        ("a ';' b", [("a", ";", "b")]),
        ("a b; c", [("a", "b;", "c")]),
        ("a %i", [("a", "one two")]),
        ('"/opt/a b/c" d', [("/opt/a b/c", "d")]),
    ],
)
def test_command_lines(value: str, argvs: list[tuple[str, ...]]) -> None:
    assert [line.argv for line in lines(value)] == argvs


def test_prefixes_in_any_order() -> None:
    line = lines("-+@/bin/a name x")[0]
    assert (line.path, line.argv, line.ignore_failure, line.privileged) == (
        "/bin/a", ("name", "x"), True, True,
    )  # fmt: skip
    assert lines("!!/bin/a")[0].keeps_identity == "!!"
    assert not lines(":/bin/a $X")[0].expand


@pytest.mark.parametrize("value", ["-", "bin/a", "/bin/", "@/bin/a", '"a', "; ;"])
def test_no_command_line(value: str) -> None:
    with pytest.raises(Wrong):
        lines(value)


def test_an_unknown_escape_stays_and_is_told() -> None:
    text = "[Service]\nExecStart=/bin/sh -c 'echo \\$HOME'\n"
    assert warnings(text) == [
        "x.service:2:11: ExecStart: `\\$` is no escape; it stays as it is written"
    ]
    assert service(r"ExecStart=/bin/sh -c 'a \. b'").commands[0].argv[2] == r"a \. b"


ENVIRONMENT = dict(assignments("""ONE=one 'TWO=two two' "THREE='a b' c" """))


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("$ONE", ("one",)),
        ("$TWO", ("two", "two")),
        ("${TWO}", ("two two",)),
        ("$THREE", ("a b", "c")),
        ("x${ONE}y$ONE", ("xoney$ONE",)),
        ("$MISSING", ()),
        ("${MISSING}", ("",)),
        ("$$ONE", ("$ONE",)),
        ("a$", ("a$",)),
        ("${", ("${",)),
    ],
)
def test_variables(word: str, expanded: tuple[str, ...]) -> None:
    assert expand_word(word, ENVIRONMENT) == expanded


def test_an_environment_file() -> None:
    text = (
        '# comment\n; another\nA=one  \nB = \'x y\' z\nC="a\\"b\\$c\\n"\nD=a\\\nb\nE=\n'
        "export F=1\nG='two\nlines'\nH=a # b\n"
    )
    found = parse_environment_file(text, file="e")
    assert dict(found.variables) == {
        "A": "one", "B": "x y z", "C": 'a"b$c\\n', "D": "ab", "E": "", "G": "two\nlines",
        "H": "a # b",
    }  # fmt: skip
    assert [str(each.where) for each in found.warnings] == ["e:9:1"]


def test_a_command_alone_is_executed_with_its_variables_replaced() -> None:
    process = Process(commands=(Command(argv=("/bin/a", "$X", "${X}"), expand=True),))
    assert command(process, {"X": "1 2"}).argv == ("/bin/a", "1", "2", "1 2")
    kept = Process(commands=(Command(argv=("/bin/a", "$X")),))
    assert command(kept, {"X": "1 2"}).argv == ("/bin/a", "$X")


def test_several_commands_are_a_script_of_quoted_words() -> None:
    commands = (
        Command(argv=("echo", "it's", "$(id)"), ignore_failure=True),
        Command(argv=("/bin/b", "${X}"), expand=True),
        Command(argv=("/bin/c",)),
    )
    found = command(Process(commands=commands), {"X": "`id`; rm"})
    assert found.script == ("env echo 'it'\"'\"'s' '$(id)' || :\n/bin/b '`id`; rm'\nexec /bin/c")


def test_one_command_whose_failure_is_nothing_goes_through_the_shell() -> None:
    process = Process(commands=(Command(argv=("/bin/a",), ignore_failure=True),))
    assert command(process).argv == ("/bin/sh", "-e", "-c", "/bin/a || :", "/bin/sh")

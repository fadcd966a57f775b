"""The example at the end of each command's help is one that the command takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest

from hostlab.cli.main import cli
from hostlab.probes.talking import parse

pytestmark = pytest.mark.unit

ENDS = ("&&", "|", ">", "<")


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


EXAMPLES = [
    # A remark may stand in brackets behind two blanks.
    (name, command.epilog.removeprefix("Example: ").partition("  (")[0])
    for name, command in commands(cli, ("hostlab",))
    if command.epilog
]


def given(command: click.Command, words: list[str]) -> tuple[dict[str, object], list[str]]:
    """What a command's options are given, and what is left of its words."""
    context = click.Context(command, resilient_parsing=True)
    context.allow_interspersed_args = not isinstance(command, click.Group)
    options, left, _ = command.make_parser(context).parse_args(words)
    return dict(options), left


def called(words: list[str]) -> dict[str, object]:
    """What the options of the command that a line names are given."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        _, words = given(command, words)
        below = command.get_command(click.Context(command), words[0])
        assert below is not None, words
        command, words = below, words[1:]
    return given(command, words)[0]


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_is_taken(name: str, line: str) -> None:
    words = shlex.split(line)
    while "hostlab" in words:
        words = words[words.index("hostlab") + 1 :]
        end = next((at for at, word in enumerate(words) if word in ENDS), len(words))
        options = called(words[:end])
        if name.startswith("hostlab talk"):
            acts = options.get("acts") or []
            assert isinstance(acts, list)
            parse(acts, "-e", eol=b"")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 100

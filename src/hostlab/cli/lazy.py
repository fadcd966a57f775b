"""A group whose commands are loaded when they are called: starting costs what one of them needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Finds NAME as `NAME_command` in its module of this package.

    A dash in a name is an underscore there.
    """

    def __init__(
        self, *arguments: Any, lazily: Mapping[str, tuple[str, str]], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._lazily = lazily
        """Command -> (module, one line of help)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are listed."""
        return list(self._lazily)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in self._lazily:
            return None
        module = importlib.import_module(f"hostlab.cli.{self._lazily[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and their lines, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazily.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A name that does not exist is answered with the nearest that does."""
        if args and args[0] not in self._lazily and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self._lazily, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

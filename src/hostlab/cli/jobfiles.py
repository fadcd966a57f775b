"""Commands about what jobs say, in files or in an init: check, find, show-config, graph."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.inits import node_option, one_init
from hostlab.cli.output import json_option, print_json
from hostlab.errors import SpecError, UsageError

if TYPE_CHECKING:
    from hostlab.init.client import InitClient
    from hostlab.init.job_files import JobFile
    from hostlab.jobs.drawing import Colours
    from hostlab.jobs.relations import Graph
    from hostlab.spec.job import Job
    from hostlab.spec.systemd.unit import Unit

_COLOURS = {
    "emits": ("green", "lines to what a job emits"),
    "start-on": ("blue", "lines to what a job starts on"),
    "stop-on": ("red", "lines to what a job stops on"),
    "event": ("thistle", "events"),
    "job": ("#DCDCDC", "jobs"),
    "text": ("black", "the summary"),
    "bg": ("white", "the background"),
    "event-text": ("black", "events' names"),
    "job-text": ("black", "jobs' names"),
}
_KINDS = ("emits", "start-on", "stop-on")
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the jobs are that a command is about."""

    directories: tuple[str, ...]
    is_user: bool
    node: str | None

    def jobs(self) -> tuple[Job, ...]:
        """All of them; what is wrong with others is told."""
        return self.init.configuration() if self.is_live else self._of_files()

    @property
    def is_live(self) -> bool:
        """Whether an init that runs is asked, and no file is read."""
        return self.node is not None

    @property
    def init(self) -> InitClient:
        """The init that is asked."""
        if self.directories or self.is_user:
            hint = "the jobs of an init that runs are those that it has read itself"
            raise UsageError("which-jobs", "--confdir and --user go with files only", hint=hint)
        return one_init(self.node)

    def _of_files(self) -> tuple[Job, ...]:
        from hostlab.init.job_files import read_directories
        from hostlab.spec.search import SYSTEM_DIRECTORIES, user_directories

        directories: Sequence[str] = self.directories
        if not directories:
            usual = user_directories(os.environ) if self.is_user else SYSTEM_DIRECTORIES
            directories = [each for each in usual if os.path.isdir(each)]
            if not directories:
                hint = "--confdir DIR names a directory of job files, --node NODE a running init"
                text = f"there is no {' and no '.join(usual)}"
                raise UsageError("no-directory", text, hint=hint)
        found = read_directories(directories)
        for error in (error for each in found for error in each.errors):
            print(f"warning: {error}", file=sys.stderr)
        return tuple(each.job for each in found if each.job is not None)


def _places(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the jobs are, as `place`: files (`--confdir`, `--user`), or a running init."""

    @functools.wraps(function)
    def placed(
        *args: Any, directories: tuple[str, ...], is_user: bool, node: str | None, **options: Any
    ) -> Any:
        return function(*args, place=_Place(directories, is_user, node), **options)

    confdir = click.option(
        "--confdir",
        "directories",
        multiple=True,
        type=click.Path(),
        help="Where job files are; more than one in the order of search. Default: /etc/init.",
    )
    user = click.option(
        "--user/--system", "is_user", default=False, help="Where a user's session has its jobs."
    )
    return confdir(user(node_option(placed, text="NODE or LAB/NODE: the jobs that its init has.")))


@click.command("check", epilog="Example: hostlab job check /etc/init")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...", type=click.Path())
@click.option("--no-scripts", is_flag=True, help="Do not ask the shell whether it reads scripts.")
@click.option("--explain", is_flag=True, help="Tell what becomes of each line of systemd units.")
@json_option
def check_command(paths: tuple[str, ...], *, no_scripts: bool, explain: bool, as_json: bool) -> int:
    """Name every error of job files with file:line:column; `-` is standard input.

    Directories are one search path, as Upstart's: the first one that has a job owns its name, and
    overrides are laid over it. The same holds for systemd's units, FILE.service and the like; what
    of them cannot be meant is a warning, an error is only a unit that means nothing. Exit 2 if
    there was an error; a bad file never stops the others.
    """
    rows: list[dict[str, Any]] = []
    errors: list[SpecError] = []
    found = _read_paths(paths)
    for each in found:
        wrong = [*each.errors, *(() if no_scripts else _script_errors(each))]
        errors += wrong
        row: dict[str, Any] = {"name": each.name, "files": list(each.texts), "valid": not wrong}
        told = {"errors": wrong, "remarks": each.remarks}
        row |= {key: [_error_row(e) for e in some] for key, some in told.items()}
        if explain and each.unit is not None:
            row["directives"] = _directive_rows(each.unit)
        rows.append(row)
    if as_json:
        print_json(rows)
    else:
        for remark in (remark for each in found for remark in each.remarks):
            print(f"warning: {remark}", file=sys.stderr)
        for error in errors:
            print(error, file=sys.stderr)
        for line in (line for row in rows for line in row.get("directives", ())):
            print(_explained(line))
        bad = sum(not row["valid"] for row in rows)
        print(f"{_count(len(rows), 'job')}, {bad} with errors")
    return 2 if errors else 0


def _read_paths(paths: Sequence[str]) -> list[JobFile]:
    from hostlab.init.job_files import read_directories, read_file, read_text
    from hostlab.init.unit_files import is_unit_file, read_unit_directories, read_unit_file

    found: list[JobFile] = []
    for path in paths:
        if path == _STDIN:
            found.append(read_text(_standard_input(), file=_STDIN, name="stdin"))
        elif not os.path.isdir(path):
            found.append(read_unit_file(path) if is_unit_file(path) else read_file(path))
    directories = [path for path in paths if path != _STDIN and os.path.isdir(path)]
    return [*found, *read_directories(directories), *read_unit_directories(directories)]


def _script_errors(found: JobFile) -> tuple[SpecError, ...]:
    from hostlab.init.shell_check import script_errors

    return () if found.job is None else script_errors(found.job, found.texts)


def _directive_rows(unit: Unit) -> list[dict[str, Any]]:
    from hostlab.spec.systemd.loading import explain

    return [
        {
            "file": entry.file,
            "line": entry.line,
            "section": entry.section,
            "key": entry.key,
            "value": entry.value,
            "effect": row.effect.value if row else "unknown",
            "text": row.text if row else None,
        }
        for entry, row in explain(unit)
    ]


def _explained(row: dict[str, Any]) -> str:
    """One directive with its place and what becomes of it."""
    text = f": {row['text']}" if row["text"] else ""
    return f"{row['file']}:{row['line']}: {row['key']}= {row['effect']}{text}"


def _error_row(error: SpecError) -> dict[str, Any]:
    where = error.where
    return {
        "code": error.code,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "text": where.text if where else None,
        "message": error.message,
        "hint": error.hint,
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@click.command("find", epilog="Example: hostlab job find startup --confdir /etc/init")
@click.argument("event")
@_places
@json_option
def find_command(event: str, *, place: _Place, as_json: bool) -> int:
    """Tell which jobs emit EVENT, start on it or stop on it, with file and line.

    Exit 1 if there is none.
    """
    from hostlab.jobs.find import find_event

    found = find_event(place.jobs(), event)
    if as_json:
        print_json(
            [
                {
                    "job": each.job,
                    "role": each.role.value,
                    "text": each.text,
                    "file": each.said.file if each.said else None,
                    "line": each.said.line if each.said else None,
                }
                for each in found
            ]
        )
    else:
        for each in found:
            where = f"{each.said.file}:{each.said.line}: " if each.said else ""
            print(f"{where}{each.job}: {each.role.value} {each.text}")
    return 0 if found else 1


@click.command("show-config", epilog="Example: hostlab job show-config -e dbus")
@click.argument("names", nargs=-1, metavar="[JOB]...")
@click.option("-e", "--enumerate", "is_enumerated", is_flag=True, help="One line an event.")
@_places
@json_option
def show_config_command(
    names: tuple[str, ...],
    *,
    is_enumerated: bool,
    place: _Place,
    as_json: bool,
) -> None:
    """Show what jobs emit, start on and stop on, as `initctl show-config` does."""
    from hostlab.jobs.listing import show_config

    jobs = _named(place.jobs(), names)
    if as_json:
        print_json([_config_row(job) for job in jobs])
    else:
        sys.stdout.write(show_config(jobs, enumerate_events=is_enumerated))


def _config_row(job: Job) -> dict[str, Any]:
    from hostlab.spec.condition import print_condition

    start, stop = (on and print_condition(on) for on in (job.start_on, job.stop_on))
    return {"name": job.name, "emits": list(job.emits), "start_on": start, "stop_on": stop}


def _named(jobs: tuple[Job, ...], names: Sequence[str]) -> tuple[Job, ...]:
    by_name = {job.name: job for job in jobs}
    for name in names:
        if name not in by_name:
            raise UsageError("unknown-job", f"unknown job {name!r}")
    return tuple(by_name[name] for name in names) if names else jobs


def _split(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Names from a list with commas; blanks round them and empty ones are nothing."""
    words = (word.strip() for text in value for word in text.split(","))
    return tuple(word for word in words if word)


def _kinds(context: click.Context, parameter: click.Parameter, value: Any) -> tuple[str, ...]:
    words = _split(context, parameter, value)
    known = (*_KINDS, "alone")
    for word in words:
        if word not in known:
            raise click.BadParameter(f"{word!r} is none of {', '.join(known)}")
    return words


def _colour_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (default, what) in reversed(_COLOURS.items()):
        option = click.option(
            f"--color-{name}", default=default, show_default=True, help=f"Colour of {what}."
        )
        function = option(function)
    return function


@click.command(
    "graph", epilog="Example: hostlab job graph --restrict-to-jobs mountall,udev | dot -Tx11"
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("dot", "svg", "mermaid")),
    default="dot",
    show_default=True,
    help="What to draw with.",
)
@click.option(
    "-f", "--infile", help="Draw a listing of show-config instead; `-` is standard input."
)
@click.option("-o", "--outfile", type=click.Path(), help="Write to a file instead.")
@click.option(
    "-r", "--restrict-to-jobs", multiple=True, callback=_split,
    help="Only these jobs (commas between them), what they name, and who emits what they wait for.",
)  # fmt: skip
@click.option(
    "--restrict-to-events", multiple=True, callback=_split,
    help="Only these events (commas between them) and the jobs that name one.",
)  # fmt: skip
@click.option(
    "--show", multiple=True, callback=_kinds, help="Only these lines: emits, start-on, stop-on."
)
@click.option(
    "--hide", multiple=True, callback=_kinds,
    help="Without these: emits, start-on, stop-on, alone (jobs that nothing leads to or from).",
)  # fmt: skip
@_colour_options
@_places
def graph_command(
    *,
    kind: str,
    infile: str | None,
    outfile: str | None,
    place: _Place,
    **options: Any,
) -> None:
    """Draw which jobs emit, start on and stop on which events, as initctl2dot did.

    The jobs of a running init (`--node`, `--init`) have the colours of their states: green
    running, orange starting or stopping, red failed, grey waiting or stopped.
    """
    from hostlab.jobs.drawing import dot, mermaid
    from hostlab.jobs.drawing_svg import svg
    from hostlab.jobs.relations import relate

    jobs = place.jobs() if infile is None else _listed(infile)
    graph = _narrowed(relate(jobs), options)
    colours = _colours(options, place)
    picture = {"dot": dot, "svg": svg, "mermaid": mermaid}[kind](graph, colours)
    if outfile in (None, _STDIN):
        sys.stdout.write(picture)
    else:
        assert outfile is not None
        with open(outfile, "w", encoding="utf-8") as file:
            file.write(picture)


def _narrowed(graph: Graph, options: dict[str, Any]) -> Graph:
    from hostlab.jobs.relations import Kind, only, restrict_to_events, restrict_to_jobs

    if options["restrict_to_jobs"]:
        graph = restrict_to_jobs(graph, options["restrict_to_jobs"])
    if options["restrict_to_events"]:
        graph = restrict_to_events(graph, options["restrict_to_events"])
    shown = [word for word in options["show"] if word in _KINDS] or _KINDS
    kinds = [Kind(word) for word in shown if word not in options["hide"]]
    return only(graph, kinds, with_alone="alone" not in options["hide"])


def _colours(options: dict[str, Any], place: _Place) -> Colours:
    from hostlab.jobs.drawing import Colours

    named = {
        name.replace("-", "_"): options[f"color_{name.replace('-', '_')}"] for name in _COLOURS
    }
    if not place.is_live:
        return Colours(**named)
    from hostlab.jobs.drawing_states import colours_of

    return Colours(**named, jobs=colours_of(place.init.job_table()))


def _listed(path: str) -> tuple[Job, ...]:
    from hostlab.jobs.listing import read_listing

    if path == _STDIN:
        return read_listing(_standard_input(), file=_STDIN)
    with open(path, encoding="utf-8", errors="replace") as file:
        return read_listing(file.read(), file=path)


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode(errors="replace")


COMMANDS = (check_command, find_command, show_config_command, graph_command)

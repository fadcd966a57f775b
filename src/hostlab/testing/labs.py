"""The labs of one pytest process: which a test wants, who shares it, and when it goes."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec
import pytest

from hostlab import spec, typed
from hostlab.errors import Failed, Problem, UsageError
from hostlab.lab.description import read_lab
from hostlab.spec.names import MAX_LABEL
from hostlab.testing.shared import SharedLab

VARIABLE: Final = "hostlab_lab"
"""Names the description: in a module, in the ini file."""
Key = tuple["Wanted", str]
"""Which lab, and whose: a test's, a module's, the session's."""


class Wanted(msgspec.Struct, frozen=True):
    """Which lab a test wants, and how it is shared."""

    description: str
    """A path, or the text itself, which has more than one line."""
    directory: str
    """Where a relative path begins."""
    scope: Literal["function", "module", "session"] = "module"
    reset: Literal["undo", "anew", "none"] = "undo"


def nodes_of(item: pytest.Item, described: spec.Lab) -> list[spec.Node]:
    """The nodes that a test is about; UsageError when a pattern is about none."""
    chosen = list(described.nodes)
    for marker in item.iter_markers("hostlab_nodes"):
        roles = marker.kwargs.get("role")
        hosts = marker.args
        chosen = [node for node in chosen if _fits(node, hosts, (roles,) if roles else ())]
        if not chosen:
            what = ", ".join([*map(str, hosts), *([f"role {roles}"] if roles else [])])
            raise UsageError("nodes", f"lab {described.name} has no node like {what}")
    return chosen


def _fits(node: spec.Node, hosts: Any, roles: Any) -> bool:
    return (not hosts or any(fnmatchcase(node.name, each) for each in hosts)) and (
        not roles or any(fnmatchcase(role, each) for role in node.roles for each in roles)
    )


def wanted_by(item: pytest.Item) -> Wanted:
    """The lab that a test's marker names, else its module, else the command line or the ini file.

    UsageError when none does, or a marker says what it cannot.
    """
    marker = item.get_closest_marker("hostlab")
    said: dict[str, Any] = dict(marker.kwargs) if marker else {}
    if marker and marker.args:
        said["description"] = marker.args[0]
    directory = str(item.path.parent)
    if "description" not in said:
        module = item.getparent(pytest.Module)
        found = getattr(module.obj, VARIABLE, None) if module else None
        if found is None:
            found, directory = _configured(item.config)
        if found is None:
            raise UsageError(
                "no-lab",
                "the test wants a lab, and nothing names one",
                hint=f"@pytest.mark.hostlab(FILE), `{VARIABLE} = FILE` in the module or in the ini"
                " file, or --hostlab-lab FILE",
            )
        said["description"] = found
    said["description"] = os.fspath(said["description"])
    try:
        return typed.convert({"directory": directory, **said}, Wanted)
    except msgspec.ValidationError as error:
        raise UsageError("marker", f"pytest.mark.hostlab: {error}") from None


def _configured(config: pytest.Config) -> tuple[str | None, str]:
    option = config.getoption("hostlab_lab")
    if option:
        return option, str(config.invocation_params.dir)
    return config.getini(VARIABLE) or None, str(config.inipath.parent if config.inipath else "")


class Labs:
    """The labs of this pytest process."""

    def __init__(self, config: pytest.Config) -> None:
        """`--hostlab-keep` leaves those of failed tests up."""
        self.is_keeping = bool(config.getoption("hostlab_keep"))
        self._hosts: list[str] = config.getoption("hostlab_host")
        self._roles: list[str] = config.getoption("hostlab_role")
        self._descriptions: dict[tuple[str, str], spec.Lab] = {}
        self._up: dict[Key, tuple[SharedLab, contextlib.ExitStack]] = {}
        self._failed: dict[Key, str] = {}
        """Those that could not be staged, and why."""
        self._lent: dict[str, SharedLab] = {}
        """Which test has which just now."""
        self._numbers = itertools.count(1)
        self._kept: set[str] = set()
        """Tests whose lab is left up."""

    def described(self, wanted: Wanted) -> spec.Lab:
        """The description; SpecErrors or UsageError when it is none."""
        key = (wanted.description, wanted.directory)
        if key not in self._descriptions:
            self._descriptions[key] = _read(*key)
        return self._descriptions[key]

    def pytest_collection_modifyitems(self, config: pytest.Config) -> None:
        """A host or a role that no lab has is a slip of the pen, and must not look like success.

        It is an error of collecting, which xdist's workers can tell, too.
        """
        nodes = [node for described in self._descriptions.values() for node in described.nodes]
        names = [node.name for node in nodes]
        roles = [role for node in nodes for role in node.roles]
        for option, patterns, what, known in (
            ("--hostlab-host", self._hosts, "node is called", names),
            ("--hostlab-role", self._roles, "node has the role", roles),
        ):
            for pattern in patterns if nodes else ():
                if not any(fnmatchcase(name, pattern) for name in known):
                    there = ", ".join(list(dict.fromkeys(known))[:20]) or "none"
                    text = f"no {what} {pattern}; there are: {there}"
                    report = pytest.CollectReport(f"{option} {pattern}", "failed", text, [])
                    config.hook.pytest_collectreport(report=report)

    def nodes_for(self, item: pytest.Item) -> list[str]:
        """The names of the nodes that a test goes through."""
        try:
            described = self.described(wanted_by(item))
            about = nodes_of(item, described)
            return [node.name for node in about if _fits(node, self._hosts, self._roles)]
        except Problem as problem:
            # Of this one alone pytest shows the message without its own lines.
            raise pytest.Collector.CollectError(f"{item.nodeid}: {problem}") from None

    def of(self, item: pytest.Item) -> tuple[SharedLab, Key]:
        """The lab that a test wants, staged if it is not yet; the test fails when it cannot be.

        Nor can it be for others that share it: staging may have taken minutes to fail.
        """
        try:
            wanted = wanted_by(item)
            key = (wanted, _owner(item, wanted.scope))
            text = self._failed.get(key, "")
            if not text and key not in self._up:
                self._up[key] = self._staged(key, self.described(wanted))
        except (Problem, OSError) as error:
            text = str(error)
        if text:
            pytest.fail(text, pytrace=False)  # here, or pytest shows the other exception, too
        return self._up[key][0], key

    def _staged(self, key: Key, described: spec.Lab) -> tuple[SharedLab, contextlib.ExitStack]:
        number = next(self._numbers)
        suffix = f"-{os.getpid()}" + (f"-{number}" if number > 1 else "")
        shared = SharedLab(described, name=described.name[: MAX_LABEL - len(suffix)] + suffix)
        stack = contextlib.ExitStack()
        try:
            stack.enter_context(shared)
        except (Problem, OSError) as error:
            self._failed[key] = f"as for the test before: {error}"
            raise
        return shared, stack

    @contextlib.contextmanager
    def lent(self, item: pytest.Item) -> Iterator[SharedLab]:
        """A lab for one test; set back afterwards, or kept when it has failed."""
        shared, key = self.of(item)
        wanted, _ = key
        self._lent[item.nodeid] = shared
        try:
            yield shared
        finally:
            del self._lent[item.nodeid]
        if item.nodeid in self._kept:
            del self._up[key]
        elif wanted.scope == "function" or wanted.reset == "anew":
            self._down(key)
        elif wanted.reset == "undo":
            try:
                shared.reset()
            except BaseException:
                self._down(key)
                raise

    def _down(self, key: Key) -> None:
        _, stack = self._up.pop(key)
        stack.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell beside a failure how its lab is entered, or how it would be kept."""
        shared = self._lent.get(item.nodeid)
        error = None if call.excinfo is None else call.excinfo.value
        is_told = False
        if shared is not None and isinstance(error, Failed) and not self.is_keeping:
            # A hint that leads into a lab that is about to go would be in vain.
            is_told = error.hint is None or error.lab == shared.lab.name
            if is_told:
                error.hint = "run again with --hostlab-keep to look inside"
        report = yield
        if shared is not None and report.failed and report.when != "teardown":
            text = "--hostlab-keep leaves the lab of a failed test up"
            if self.is_keeping:
                self._kept.add(item.nodeid)
                text = _how_to_enter(item, shared)
            if not is_told:
                report.sections.append(("hostlab", text))
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Take down what no further test is to use."""
        for key in list(self._up):
            wanted, owner = key
            if nextitem is None or _owner(nextitem, wanted.scope) != owner:
                self._down(key)

    def pytest_sessionfinish(self) -> None:
        """Whatever ends a session leaves no lab but those that are kept."""
        for key in list(self._up):
            self._down(key)


def _owner(item: pytest.Item, scope: str) -> str:
    match scope:
        case "function":
            return item.nodeid
        case "module":
            return str(item.path)
        case _:
            return ""


def _read(description: str, directory: str) -> spec.Lab:
    if "\n" not in description:
        return read_lab(os.path.join(directory, description))

    def read(name: str) -> bytes:
        with open(os.path.join(directory, name), "rb") as source:
            return source.read()

    return spec.load(description, file="<test>", read=read, directory=directory, seed=None)


def _how_to_enter(item: pytest.Item, shared: SharedLab) -> str:
    name = shared.lab.name
    nodes = [node.name for node in shared.lab.description.nodes]
    chosen = getattr(item, "callspec", None)
    node = chosen.params.get("node") if chosen else None
    return (
        f"lab {name} is left up\n"
        f"enter: hostlab shell {name}/{node or nodes[0]}\n"
        f"end:   hostlab down {name}"
    )

"""Names that are parts of paths, and the directories in which namespaces are looked for."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hostlab.errors import UsageError
from hostlab.linux import cgroups
from hostlab.linux.procfs import boot_id
from hostlab.tasks import places
from hostlab.tasks.places import Namespace, Tracking

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "name", ["a", "first-task", "A.b_c-1", "_x", "x" * 64, "task-exit", "tasks"]
)
def test_a_name(name: str) -> None:
    assert places.checked_name("task", name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".x", "-x", "a/b", "a b", "a\n", "a:b", "tâche", "x" * 65, "\0", "x" * 10**6],
)
def test_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="task should be an alphanumeric ASCII string") as caught:
        places.checked_name("task", name)
    assert len(str(caught.value)) < 300


def test_where_namespaces_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOSTLAB_RUN", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places.bases() == ("/run/hostlab-tasks",)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert places.bases() == ("/tmp/hostlab-tasks-1234", "/run/hostlab-tasks")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1234")
    assert places.bases() == ("/run/user/1234/hostlab-tasks", "/run/hostlab-tasks")
    monkeypatch.setenv("HOSTLAB_RUN", "/some/where")
    assert places.bases() == ("/some/where-tasks",)


def test_where_logs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places.default_logs("ns") == "/var/log/hostlab/ns"
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert places.default_logs("ns") == "/home/me/.local/state/hostlab/ns"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert places.default_logs("ns") == "/state/hostlab/ns"


def test_a_mark_is_a_task_namespaces_and_no_labs() -> None:
    mark = places.mark("tasks", "/run/hostlab-tasks/tasks")
    assert cgroups.is_of_tasks(os.path.basename(mark))
    assert mark != places.mark("tasks", "/elsewhere/tasks")
    assert not cgroups.is_of_tasks("tasks:0123abcd"), "a lab named tasks"


def _namespace(base: Path, **changes: object) -> Namespace:
    directory = base / "ns"
    directory.mkdir(parents=True)
    made = Namespace(
        "ns", str(directory), 0, 0, Tracking.KEEPER, None, None, {}, str(base), boot_id()
    )
    made = msgspec.structs.replace(made, **changes)
    (directory / places.FILE).write_bytes(msgspec.json.encode(made))
    return made


def test_a_namespace_is_found_until_the_machine_is_booted(tmp_path: Path) -> None:
    made = _namespace(tmp_path / "now")
    assert places.found_in(made.directory) == made
    before = _namespace(tmp_path / "before", boot="another")
    assert places.found_in(before.directory) is None
    without = _namespace(tmp_path / "without", v1={"pids": str(tmp_path / "gone")})
    assert places.found_in(without.directory) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', "{}", "\xff"])
def test_what_is_not_readable_is_no_namespace(tmp_path: Path, text: str) -> None:
    made = _namespace(tmp_path)
    (Path(made.directory) / places.FILE).write_text(text)
    assert places.found_in(made.directory) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", [".", "ns", f"ns/{places.FILE}"])
def test_what_is_another_users_is_not_trusted(tmp_path: Path, what: str) -> None:
    made = _namespace(tmp_path)
    os.chown(tmp_path / what, 65533, 65533)
    assert places.found_in(made.directory) is None

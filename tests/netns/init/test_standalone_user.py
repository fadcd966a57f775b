"""`hostlab init --user`: a plain user's session."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.cli.cli_site import NOBODY, plain_users_python
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, alive, standing

pytestmark = pytest.mark.netns


@contextmanager
def session(files: dict[str, str]) -> Iterator[Alone]:
    """A session of a plain user, whose home has these files."""
    root = Path(tempfile.mkdtemp(prefix="hostlab-session-"))
    environment = {
        "HOME": str(root),
        "XDG_RUNTIME_DIR": str(root / "runtime"),
        "XDG_CONFIG_HOME": str(root / "config"),
        "XDG_CONFIG_DIRS": str(root / "xdg"),
        "XDG_CACHE_HOME": str(root / "cache"),
        "HOSTLAB_RUN": str(root / "runtime" / "hostlab"),
        "GREETING": "hello",
    }
    (root / "runtime").mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def become(alone: Alone) -> None:
        alone.user = NOBODY
        python, alone.environment["PYTHONPATH"] = plain_users_python()
        alone.hostlab = (python, "-m", "hostlab.cli.main")
        for place, _, names in os.walk(root):
            for each in (place, *(f"{place}/{name}" for name in names)):
                os.chown(each, NOBODY, NOBODY)

    try:
        with standing(root, words=["--user"], environment=environment, before=become) as alone:
            yield alone
    finally:
        shutil.rmtree(root)


def content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_search_path_first_owns_a_name() -> None:
    files = {
        "config/upstart/one.conf": "start on startup\nexec echo config",
        ".init/one.conf": "start on startup\nexec echo dot-init",
        ".init/two.conf": "start on startup\nexec echo dot-init",
        "xdg/upstart/two.conf": "start on startup\nexec echo xdg",
        "xdg/upstart/three.conf": "start on startup\nexec echo xdg",
        "config/upstart/three.override": "manual",
    }
    with session(files) as alone:
        logs = alone.root / "cache" / "upstart"
        wait_until(lambda: bool(content(logs / "two.log")), "a log of the second job")
        wait_until(lambda: bool(content(logs / "one.log")), "a log of the first job")
        assert content(logs / "one.log") == "config\n"
        assert content(logs / "two.log") == "dot-init\n"
        assert alone.row("three")["state"] == "waiting"
        assert (logs / "two.log").stat().st_uid == NOBODY


def test_surroundings_of_a_job() -> None:
    """Where init was started, with its environment, and with its session's address."""
    show = (
        "start on startup\nenv SAID=$GREETING\n"
        "exec echo $(pwd) $GREETING $(id -u) $UPSTART_SESSION $(initctl version)"
    )
    files = {
        "config/upstart/show.conf": show,
        "config/upstart/away.conf": "task\nchdir /usr\nexec pwd",
        "config/upstart/named.conf": "start on startup\ninstance $GREETING\nexec sleep 1000",
    }
    with session(files) as alone:
        logs = alone.root / "cache" / "upstart"
        wait_until(lambda: bool(content(logs / "show.log")), "a log")
        said = content(logs / "show.log")
        expected = f"{alone.root} hello {NOBODY} hostlab:{alone.run}/initctl init ("
        assert said.startswith(expected), said
        assert alone("job", "start", "away", "--init")[0] == 0
        wait_until(lambda: content(logs / "away.log") == "/usr\n", "the other directory")
        assert alone.row("named")["instance"] == "hello"


def test_sessions_are_listed() -> None:
    with session({}) as alone:
        directory = alone.root / "runtime" / "upstart" / "sessions"
        # The first answer comes from a supervisor that has written it.
        assert alone.table() == []
        assert os.listdir(directory) == [f"{alone.holder}.session"]
        (directory / "4194303.session").write_text("UPSTART_SESSION=unix:gone\n")
        address = f"hostlab:{alone.run}/initctl"
        status, out, _ = alone.initctl("list-sessions")
        assert (status, out) == (0, f"{alone.holder} {address}\n")
        assert (
            alone.program(
                "initctl", "list", PATH=f"{alone.run}/bin:/usr/bin:/bin", UPSTART_SESSION=address
            )[0]
            == 0
        )
        assert alone.stop() == 0
        assert os.listdir(directory) == []


def test_session_end() -> None:
    """`session-end` first, then every job's own stop, then whatever is left of them."""
    stays = (
        "start on startup\nkill timeout 1\nscript\ntrap '' TERM\n"
        "setsid sh -c 'trap \"\" TERM; sleep 1000' &\necho $! >child\nsleep 1000 & wait\nend script"
    )
    files = {
        "config/upstart/web.conf": "start on startup\nexec sleep 1000",
        "config/upstart/last.conf": "start on session-end\ntask\nexec sh -c 'status web >last'",
        "config/upstart/stays.conf": stays,
    }
    with session(files) as alone:
        child = alone.root / "child"
        wait_until(lambda: content(child).endswith("\n"), "the child")
        pids = [alone.pid("web"), alone.pid("stays"), int(content(child)), alone.supervisor]
        assert alone.stop() == 0
        wait_until(lambda: not any(map(alive, pids)), f"the end of all: {list(map(alive, pids))}")
        assert content(alone.root / "last") == f"web start/running, process {pids[0]}\n"
        assert not alone.run.exists()

"""The system's events in a user's session: two inits, and a bus between them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.cli.cli_site import NOBODY, plain_users_python
from tests.netns.init.bus_site import Bus, bus, needs_bus
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = [pytest.mark.netns, needs_bus]

HEARS = 'start on :sys:greet WHO=al* or :sys:restarted\ntask\nexec echo "$UPSTART_EVENTS $WHO"\n'


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that another user reaches."""
    found = Path(tempfile.mkdtemp(prefix="hostlab-sys-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


def session_of_nobody(alone: Alone) -> None:
    """Have a session run as another user, where the caller may choose."""
    if os.geteuid() != 0:
        return
    alone.user = NOBODY
    python, alone.environment["PYTHONPATH"] = plain_users_python()
    alone.hostlab = (python, "-m", "hostlab.cli.main")
    for place, _, names in os.walk(alone.root):
        for each in (place, *(f"{place}/{name}" for name in names)):
            os.chown(each, NOBODY, NOBODY)


def log(session: Alone) -> str:
    path = session.root / "cache" / "upstart" / "hears.log"
    return path.read_text() if path.exists() else ""


def rules(place: Bus, *, but_of: str = "") -> dict[str, str]:
    """Who asks for events, and how; one of them may be left out."""
    return {
        owner: rule
        for owner, rules in place.rules_by_owner().items()
        for rule in rules
        if "EventEmitted" in rule and owner != but_of
    }


def test_a_session_hears_the_systems_events(root: Path) -> None:
    own = root / "session"
    own.mkdir()
    (root / "system").mkdir()
    with bus(root / "bus") as place:
        environment = {
            **place.variables,
            "HOME": str(own),
            "XDG_RUNTIME_DIR": str(own / "runtime"),
            "XDG_CONFIG_HOME": str(own / "config"),
            "XDG_CONFIG_DIRS": str(own / "xdg"),
            "XDG_CACHE_HOME": str(own / "cache"),
            "HOSTLAB_RUN": str(own / "run"),
        }
        (own / "config" / "upstart").mkdir(parents=True)
        (own / "config" / "upstart" / "hears.conf").write_text(HEARS)
        words = ["--bus", "--confdir", str(root / "system/jobs"), "--logdir", str(root / "logs")]
        with (
            standing(root / "system", {}, words=words, environment=place.variables) as system,
            standing(own, words=["--user"], environment=environment, before=session_of_nobody)
            as session,
        ):  # fmt: skip
            wait_until(lambda: len(rules(place)) == 1, "what the session asks of the bus")
            ((first, rule),) = rules(place).items()
            assert "arg0='greet'" in rule
            for who in ("bob", "alice"):
                system("job", "emit", "greet", f"WHO={who}", "--init")
            wait_until(lambda: bool(log(session)), "the session's job")
            assert log(session) == ":sys:greet alice\n"
            # Neither supervisor's death is the end of it.
            os.kill(system.supervisor, signal.SIGKILL)
            wait_until(lambda: "restarted" in log(session), "that init has restarted")
            os.kill(session.supervisor, signal.SIGKILL)
            wait_until(lambda: len(rules(place, but_of=first)) == 1, "the new one's rule")
            system("job", "emit", "greet", "WHO=alf", "--init")
            wait_until(lambda: "alf" in log(session), "the session's job, again")
            assert ":sys:" not in system.own_log


def test_a_systems_init_has_no_such_events(tmp_path: Path) -> None:
    with standing(tmp_path, {"hears": HEARS}) as alone:
        assert "no :sys:greet, :sys:restarted events: `:sys:` begins" in alone.own_log


def test_others_may_look_but_change_nothing(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("here: only root can be two users")
    words = ["--bus", "--confdir", str(root / "jobs"), "--logdir", str(root / "logs")]
    with (
        bus(root / "bus") as place,
        standing(root, {"one": "exec sleep 1000\n"}, words=words, environment=place.variables),
    ):
        path, manager = "/com/ubuntu/Upstart", "com.ubuntu.Upstart0_6"
        wait_until(lambda: "com.ubuntu.Upstart" in place.names(), "the name")

        def as_nobody(object_path: str, *words: str) -> str:
            sent = [f"--bus={place.address}", "--print-reply", "--dest=com.ubuntu.Upstart"]
            return place.run("dbus-send", *sent, object_path, *words, user=NOBODY)

        assert "jobs/one" in as_nobody(path, f"{manager}.GetAllJobs")
        get = ("org.freedesktop.DBus.Properties.Get", f"string:{manager}.Job", "string:name")
        assert 'string "one"' in as_nobody(f"{path}/jobs/one", *get)
        denied = f"{manager}.Error.PermissionDenied"
        for words_ in (
            (path, f"{manager}.EmitEvent", "string:a", "array:string:", "boolean:false"),
            (f"{path}/jobs/one", f"{manager}.Job.Start", "array:string:", "boolean:true"),
            (path, f"{manager}.GetState"),
            (path, f"{manager}.Restart"),
        ):
            assert denied in as_nobody(*words_)
        assert "waiting" not in as_nobody(f"{path}/jobs/one/_", f"{manager}.Instance.Reload")

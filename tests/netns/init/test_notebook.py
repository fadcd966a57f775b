"""The notebook's own examples, in real nodes.

The posts' job files and listings stand here as the posts have them; what the posts do not show, and
only a screen or a bus would have, is in the node's description.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.initctl.script import SESSION_PREFIX
from hostlab.jobs.drawing_states import STATE_COLOURS
from hostlab.jobs.job_state import JobState
from hostlab.sync import Lab, Node
from tests.netns.cli.cli_site import Hostlab, plain_users_python
from tests.netns.lab.lab_site import needs_hostlab_in_nodes, site, wait_until

pytestmark = pytest.mark.netns

DATA = Path(__file__).parents[2] / "data"
LISTING = (DATA / "show-config-startup.txt").read_text()
HOME = "/home/someone"
SESSION = f"{SESSION_PREFIX}{HOME}/run/hostlab/.init/initctl"
BASHRC = """\
# Upstart signal that .bashrc is running
initctl emit "I_AM_LOGGING_IN"
"""
LOGIN_TEST = """\
# /home/$USER/.config/upstart/login_test.conf
description "login test"
start on I_AM_LOGGING_IN            # Start criteria
exec /bin/date > /tmp/login_test    # Do something
"""
LOGOFF_TEST = """\
# /etc/init/logoff_test.conf
description "logout test"
setuid some_username        # Your script probably doesn't need to run as root
start on stopping lightdm   # Run *before* it is stopped
exec /bin/date > /tmp/logoff_test
"""
LIGHTDM = """\
exec sleep 1000
post-stop exec cp /tmp/logoff_test /run/seen-at-the-end
"""
SYSTEM_DBUS = """\
start on local-filesystems
stop on deconfiguring-networking
"""
USER_DBUS = "start on starting xsession-init\n"
TTY2 = """\
start on runlevel [23] and (not-container or container CONTAINER=lxc or
                            container CONTAINER=lxc-libvirt)
stop on runlevel [!23]
respawn
exec getty -8 38400 tty2
"""
STARTPAR_BRIDGE = """\
start on started JOB!=startpar-bridge or stopped JOB!=startpar-bridge
instance $JOB-$INSTANCE-$UPSTART_EVENTS
task
exec startpar-upstart-inject $JOB $UPSTART_EVENTS
"""
GETTY = """\
#!/bin/sh
test -p /run/tty2 || mkfifo /run/tty2
read logout <> /run/tty2
"""
"""Open for both, or the next one would be in time to read the end of what this one was told."""
INJECT = "#!/bin/sh\n"
TRANSCRIPT = """\
stopping JOB='tty2' INSTANCE='' RESULT='ok'
starting JOB='tty2' INSTANCE=''
starting JOB='startpar-bridge' INSTANCE='tty2--started'
started JOB='startpar-bridge' INSTANCE='tty2--started'
stopping JOB='startpar-bridge' INSTANCE='tty2--started' RESULT='ok'
stopped JOB='startpar-bridge' INSTANCE='tty2--started' RESULT='ok'
started JOB='tty2' INSTANCE=''
"""
"""The notebook's, without its times."""
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"
RESTRICTED = (
    "friendly-recovery,udev-fallback-graphics,"
    "                                 mountall,kmod,udevtrigger,hostname,"
    "                                 plymouth-ready,udevmonitor "
)
WAITING = ("hostname", "kmod", "mountall", "plymouth-ready", "udev-fallback-graphics",
           "udevmonitor", "udevtrigger")  # fmt: skip
"""The notebook's seven; its listing has an eighth, `udev-finish`."""


def described() -> str:
    """`desk`, where someone works, and `search`, a host with the jobs of the listing."""
    python, path = plain_users_python()
    desk = {
        "/etc/init/dbus.conf": SYSTEM_DBUS,
        "/etc/init/lightdm.conf": LIGHTDM,
        "/etc/init/logoff_test.conf": LOGOFF_TEST,
        "/etc/init/startpar-bridge.conf": STARTPAR_BRIDGE,
        "/etc/init/tty2.conf": TTY2,
        "/usr/share/upstart/sessions/dbus.conf": USER_DBUS,
        "/usr/local/sbin/getty": GETTY,
        "/usr/local/sbin/startpar-upstart-inject": INJECT,
        f"{HOME}/.bashrc": BASHRC,
        f"{HOME}/.config/upstart/login_test.conf": LOGIN_TEST,
    }
    search = {f"/etc/init/{name}.conf": text for name, text in blocks(LISTING).items()}
    return f"""
nodes:
  desk:
    users: {{someone: 1234, some_username: 1235}}
    boot: {{container: lxc}}
    job_files: [/etc/init]
    jobs:
      home: {{task: true, exec: chown -R someone {HOME}}}
      session:
        start_on: stopped home
        user: someone
        environment: {{HOME: {HOME}, XDG_RUNTIME_DIR: {HOME}/run, PYTHONPATH: "{path}"}}
        exec: {python} -m hostlab.cli.main init --user
        readiness: {{file: {HOME}/run/hostlab/.init/initctl/holder}}
    files:
{files(desk)}
  search:
    job_files: [/etc/init]
    files:
{files(search)}
"""


def files(contents: dict[str, str]) -> str:
    found = []
    for path, text in contents.items():
        lines = "".join(f"          {line}\n" for line in text.splitlines())
        found.append(f"      {path}:\n        mode: '0755'\n        content: |\n{lines}")
    return "".join(found)


def blocks(listing: str) -> dict[str, str]:
    """Job -> what a listing of show-config says of it, which is a job file too."""
    found = {}
    for block in re.split(r"^(?=\S)", listing, flags=re.M)[1:]:
        name, _, stanzas = block.partition("\n")
        found[name] = stanzas
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch, site(directory, patch) as place:
        lab = place.up(described())
        lab["desk"].wait_settled(within_s=60)
        yield lab


@pytest.fixture
def hostlab(lab: Lab) -> Hostlab:
    return Hostlab(Path(lab["desk"].directory).parents[2])


def in_session(node: Node, command: str) -> str:
    """Run a command as someone whose session it is; `hostlab init --user` runs in the node."""
    needs_hostlab_in_nodes()
    done = node.execute(
        ("bash", "-c", command),
        user="someone",
        environment={"HOME": HOME, "UPSTART_SESSION": SESSION},
        timeout_s=60,
    )
    assert done.status == 0, done.stderr.decode()
    return done.stdout.decode()


def test_opening_a_terminal_starts_the_login_job(lab: Lab) -> None:
    desk = lab["desk"]
    assert desk.shell("test -e /tmp/login_test").status == 1
    in_session(desk, ". ~/.bashrc")
    wait_until(lambda: desk.shell("test -s /tmp/login_test").status == 0, "the login job")
    assert desk.succeed("stat -c %U /tmp/login_test") == "someone\n"


def test_the_logoff_job_runs_before_the_other_has_stopped(lab: Lab) -> None:
    desk = lab["desk"]
    desk.succeed("initctl start lightdm")
    assert desk.succeed("initctl stop lightdm") == "lightdm stop/waiting\n"
    assert desk.succeed("stat -c %U /tmp/logoff_test") == "some_username\n"
    assert desk.succeed("cat /run/seen-at-the-end")


def test_the_systems_dbus_is_another_than_the_users(lab: Lab, hostlab: Hostlab) -> None:
    desk = lab["desk"]
    system = "dbus\n  start on local-filesystems\n  stop on deconfiguring-networking\n"
    assert desk.succeed("initctl show-config dbus") == system
    assert hostlab("job", "show-config", "dbus", "--node", "desk").stdout == system
    assert (
        in_session(desk, "initctl show-config dbus") == "dbus\n  start on starting xsession-init\n"
    )


def test_startup_is_found_in_what_show_config_prints(lab: Lab, hostlab: Hostlab) -> None:
    shown = lab["search"].succeed("initctl show-config")
    assert blocks(shown) == blocks(LISTING)
    assert "start on startup" in lab["search"].succeed("initctl show-config | grep -B8 startup")
    found = hostlab("job", "find", "startup", "--node", "search").stdout.splitlines()
    assert "/etc/init/friendly-recovery.conf:2: friendly-recovery: emits startup" in found
    starting = {line.split(": ")[1] for line in found if ": start on " in line}
    assert starting == {*WAITING, "udev-finish"}
    assert len(found) == len(starting) + 1


def test_the_monitor_tells_of_a_change_of_tty2(lab: Lab, hostlab: Hostlab) -> None:
    monitor = hostlab.start("monitor", "--node", "desk", "--job", "tty2",
                            "--job", "startpar-bridge", "--count", "7")  # fmt: skip
    assert monitor.stdout is not None
    assert monitor.stderr is not None
    with monitor, monitor.stdout, monitor.stderr:
        header = [monitor.stdout.readline().decode() for _ in range(6)]
        assert header[4] == "# Columns: time, event and environment\n"
        lab["desk"].succeed("until [ -p /run/tty2 ]; do :; done; echo > /run/tty2")
        lines = monitor.stdout.read().decode().splitlines()
        assert monitor.wait(60) == 0
    assert all(re.fullmatch(f"{TIME} .*", line) for line in lines)
    assert [line.split(" ", 2)[2] for line in lines] == TRANSCRIPT.splitlines()
    times = [line[:26] for line in lines]
    assert times == sorted(times)


def test_the_restricted_graph_has_the_colours_of_the_states(lab: Lab, hostlab: Hostlab) -> None:
    command = ("job", "graph", "--node", "search", f"--restrict-to-jobs={RESTRICTED}")
    drawn = hostlab(*command).stdout
    boxes = dict(re.findall(r'"job_([^"]+)" \[.*fillcolor="([^"]+)"', drawn))
    assert boxes.keys() >= {*WAITING, "friendly-recovery"}
    assert boxes["mountall"] == STATE_COLOURS[JobState.RUNNING]
    assert boxes["kmod"] == STATE_COLOURS[JobState.WAITING]
    assert re.search(r'"job_mountall":start -> "event_startup"', drawn)
    for kind in ("svg", "mermaid"):
        assert STATE_COLOURS[JobState.RUNNING] in hostlab(*command, "--format", kind).stdout
    done = subprocess.run(["dot", "-Tsvg"], input=drawn, capture_output=True, text=True, check=True)
    assert "mountall" in done.stdout


def test_a_place_of_files_and_a_running_init_exclude_each_other(hostlab: Hostlab) -> None:
    done = hostlab("job", "find", "startup", "--node", "search", "--user", status=2)
    assert "--confdir and --user go with files only" in done.stderr

"""`hostlab job check`, `find`, `show-config` and `graph` as a person calls them."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest

from hostlab.cli.main import run

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
SHARED = os.environ.get("HOSTLAB_SHARED", str(ROOT / "../shared"))
CORPUS = Path(SHARED, "corpus/upstart-jobs").resolve()
LISTING = (ROOT / "tests/data/show-config-startup.txt").read_text()
RESTRICTED = (
    "friendly-recovery,udev-fallback-graphics,"
    "                                 mountall,kmod,udevtrigger,hostname,"
    "                                 plymouth-ready,udevmonitor "
)
"""As the notebook's command line has it, with the blanks of its continued lines."""
WAITING = ["hostname", "kmod", "mountall", "plymouth-ready", "udev-fallback-graphics",
           "udevmonitor", "udevtrigger"]  # fmt: skip
"""The seven that the notebook found by eye; its listing has an eighth, `udev-finish`."""

Capture = pytest.CaptureFixture[str]


def standard_input(text: str) -> io.TextIOWrapper:
    """Standard input that holds a text."""
    return io.TextIOWrapper(io.BytesIO(text.encode()))


@pytest.fixture
def startup(tmp_path: Path) -> str:
    """The jobs of the notebook's listing as files: its lines are stanzas."""
    place = tmp_path / "init"
    place.mkdir()
    for block in re.split(r"^(?=\S)", LISTING, flags=re.M)[1:]:
        name, _, stanzas = block.partition("\n")
        (place / f"{name}.conf").write_text(stanzas)
    return str(place)


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """One good job, one with two errors, one whose script no shell reads."""
    (tmp_path / "good.conf").write_text("exec good\n")
    (tmp_path / "bad.conf").write_text("exce x\nexpect WHAT\n")
    (tmp_path / "shell.conf").write_text("script\n  fi\nend script\n")
    return str(tmp_path)


def test_check_names_every_error_and_exits_2(mixed: str, capsys: Capture) -> None:
    assert run(["job", "check", mixed]) == 2
    out, err = capsys.readouterr()
    assert out == "3 jobs, 2 with errors\n"
    assert err.splitlines()[:8] == [
        f"{mixed}/bad.conf:1:1: unknown stanza 'exce'",
        "    exce x",
        "    ^",
        "  hint: did you mean 'exec'?",
        f"{mixed}/bad.conf:2:8: unknown kind of expect 'WHAT'",
        "    expect WHAT",
        "           ^",
        "  hint: one of none, stop, fork, daemon, notify, fd, port, file",
    ]
    assert err.splitlines()[8].startswith(f"{mixed}/shell.conf:2:3: script: ")


def test_check_of_good_files_exits_0_and_scripts_can_be_left_out(
    mixed: str, capsys: Capture
) -> None:
    assert run(["job", "check", f"{mixed}/good.conf"]) == 0
    assert run(["job", "check", "--no-scripts", f"{mixed}/good.conf", f"{mixed}/shell.conf"]) == 0
    assert capsys.readouterr() == ("1 job, 0 with errors\n2 jobs, 0 with errors\n", "")


def test_check_for_programs(mixed: str, capsys: Capture) -> None:
    assert run(["job", "check", "--json", f"{mixed}/bad.conf", f"{mixed}/none.conf"]) == 2
    bad, none = json.loads(capsys.readouterr().out)
    assert (bad["name"], bad["valid"], bad["files"]) == ("bad", False, [f"{mixed}/bad.conf"])
    assert bad["errors"][1] == {
        "code": "conf",
        "file": f"{mixed}/bad.conf",
        "line": 2,
        "column": 8,
        "text": "expect WHAT",
        "message": "unknown kind of expect 'WHAT'",
        "hint": "one of none, stop, fork, daemon, notify, fd, port, file",
    }
    assert none["errors"][0]["message"] == f"{mixed}/none.conf: No such file or directory"


def test_check_of_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdin", standard_input("task\nexce x\n"))
    assert run(["job", "check", "-"]) == 2
    assert capsys.readouterr().err.startswith("-:2:1: unknown stanza 'exce'\n")


def test_check_of_the_corpus(capsys: Capture) -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus ../shared/corpus/upstart-jobs is not here")
    assert run(["job", "check", "--json", "--no-scripts", str(CORPUS)]) == 2
    # A file of busybox, whose name only looks like a job's.
    rows = [row for row in json.loads(capsys.readouterr().out) if row["name"][-4:] != "mdev"]
    wrong = {row["name"]: row["errors"][0]["line"] for row in rows if not row["valid"]}
    assert len(rows) - len(wrong) == 651
    assert wrong == {
        "broken/dbeacon-instance": 6,
        "broken/restorecond": 7,
        "broken/tarantool-instance": 19,
        "speech-dispatcher": 6,
        "syslog/nxlog": 8,
    }
    remarks = {row["name"]: row["remarks"][0]["line"] for row in rows if row["remarks"]}
    assert remarks == {"mail/postfix-instance": 1, "sysinit/motd": 5}
    overridden = [row["name"] for row in rows if len(row["files"]) == 2]
    assert overridden == ["net/isc-dhcp/isc-dhcp-server"]


def test_check_finds_the_scripts_of_the_corpus_that_no_shell_reads(capsys: Capture) -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus ../shared/corpus/upstart-jobs is not here")
    run(["job", "check", "--json", str(CORPUS)])
    found = {
        (row["name"], error["line"])
        for row in json.loads(capsys.readouterr().out)
        for error in row["errors"]
        if error["code"] == "script"
    }
    assert found == {
        ("monitoring/collectd", 17),
        ("monitoring/grafana-pre", 21),
        ("net/openvpn-instance", 22),
    }


def test_find_says_who_emits_startup_and_who_waits_for_it(startup: str, capsys: Capture) -> None:
    assert run(["job", "find", "startup", "--confdir", startup]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{startup}/friendly-recovery.conf:2: friendly-recovery: emits startup"
    assert lines[1] == f"{startup}/hostname.conf:1: hostname: start on startup"
    assert sum(" emits " in line for line in lines) == 1
    waiting = [line.split(": ")[1] for line in lines if " start on " in line]
    assert waiting == sorted([*WAITING, "udev-finish"])
    assert run(["job", "find", "startup", "--json", "--confdir", startup]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "job": "friendly-recovery",
        "role": "emits",
        "text": "startup",
        "file": f"{startup}/friendly-recovery.conf",
        "line": 2,
    }
    assert run(["job", "find", "nothing", "--confdir", startup]) == 1


def test_find_tells_of_bad_files_and_goes_on(mixed: str, capsys: Capture) -> None:
    Path(mixed, "x.conf").write_text("stop on halt\n")
    assert run(["job", "find", "halt", "--confdir", mixed]) == 0
    out, err = capsys.readouterr()
    assert out == f"{mixed}/x.conf:1: x: stop on halt\n"
    assert err.startswith(f"warning: {mixed}/bad.conf:1:1: unknown stanza")


def test_show_config_prints_the_notebooks_listing(startup: str, capsys: Capture) -> None:
    assert run(["job", "show-config", "--confdir", startup]) == 0
    assert capsys.readouterr().out == LISTING
    assert run(["job", "show-config", "kmod", "-e", "--confdir", startup]) == 0
    assert capsys.readouterr().out == (
        "kmod\n  start on startup (job:, env:)\n  start on started (job: udev, env:)\n"
    )
    assert run(["job", "show-config", "kmod", "--json", "--confdir", startup]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "kmod", "emits": [], "start_on": "(startup and started udev)", "stop_on": None}
    ]
    assert run(["job", "show-config", "kmdo", "--confdir", startup]) == 2


def test_show_config_dbus_differs_between_the_system_and_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name, text in {
        "etc/dbus.conf": "start on local-filesystems\nstop on deconfiguring-networking\n",
        "xdg/upstart/dbus.conf": "start on starting xsession-init\n",
        "home/.config/upstart/mine.conf": "start on I_AM_LOGGING_IN\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr("hostlab.spec.search.SYSTEM_DIRECTORIES", (str(tmp_path / "etc"),))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert run(["job", "show-config", "dbus"]) == 0
    assert capsys.readouterr().out == (
        "dbus\n  start on local-filesystems\n  stop on deconfiguring-networking\n"
    )
    assert run(["job", "show-config", "--user", "dbus", "mine"]) == 0
    assert capsys.readouterr().out == (
        "dbus\n  start on starting xsession-init\nmine\n  start on I_AM_LOGGING_IN\n"
    )


def test_without_a_directory_it_says_which_were_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("hostlab.spec.search.SYSTEM_DIRECTORIES", ("/nowhere/init",))
    assert run(["job", "find", "x"]) == 2
    assert "there is no /nowhere/init" in capsys.readouterr().err
    assert run(["job", "find", "x", "--confdir", "/nowhere"]) == 2
    assert "/nowhere is no directory" in capsys.readouterr().err


def nodes(dot: str) -> tuple[set[str], set[str]]:
    jobs = set(re.findall(r'^  "job_([^"]+)" \[', dot, re.M))
    return jobs, set(re.findall(r'^  "event_([^"]+)" \[', dot, re.M))


def test_the_restricted_dot_file_of_the_notebook(
    startup: str, tmp_path: Path, capsys: Capture
) -> None:
    out = str(tmp_path / "upstart_startup_tree.dot")
    command = ["job", "graph", "--system", "--outfile", out, f"--restrict-to-jobs={RESTRICTED}"]
    assert run([*command, "--confdir", startup]) == 0
    assert capsys.readouterr().out == ""
    dot = Path(out).read_text()
    jobs, events = nodes(dot)
    # `udev` and `plymouth-splash` have no file there, but are named.
    assert jobs == {"friendly-recovery", *WAITING, "udev", "plymouth-splash"}
    assert {"startup", "recovery", "filesystem", "not-container"} <= events
    assert "runlevel" not in events
    assert '"job_friendly-recovery":job -> "event_startup" [color="green"];' in dot
    for job in WAITING:
        assert f'"job_{job}":start -> "event_startup" [color="blue"];' in dot
    assert '"job_udevmonitor":start -> "job_udevtrigger":job [color="blue", ' in dot
    assert "stop ->" not in dot


@pytest.mark.parametrize("options", [[], ["-e"]])
def test_graph_of_an_edited_listing_on_standard_input(
    options: list[str], startup: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run(["job", "graph", "--confdir", startup]) == 0
    whole = capsys.readouterr().out
    run(["job", "show-config", *options, "--confdir", startup])
    listing = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", standard_input(listing))
    assert run(["job", "graph", "-f", "-"]) == 0
    assert capsys.readouterr().out == whole
    edited = listing.partition("alsa-state\n")[0]
    monkeypatch.setattr("sys.stdin", standard_input(edited))
    assert run(["job", "graph", "-f", "-"]) == 0
    assert nodes(capsys.readouterr().out) == ({"acpid"}, {"runlevel"})
    monkeypatch.setattr("sys.stdin", standard_input("acpid\n  starts on x\n"))
    assert run(["job", "graph", "-f", "-"]) == 2
    assert "-:2:1: neither a job" in capsys.readouterr().err


def test_graph_shows_and_hides(startup: str, capsys: Capture) -> None:
    def drawn(*options: str) -> str:
        assert run(["job", "graph", "--confdir", startup, *options]) == 0
        return capsys.readouterr().out

    only = drawn("--show", "stop-on", "--hide", "alone")
    assert nodes(only)[1] == {"runlevel", "net-device-removed"}
    assert nodes(only)[0] == {"acpid", "network-interface", "plymouth-upstart-bridge", "plymouth",
                              "resolvconf", "ssh", "tty1", "tty2", "tty3", "wait-for-state",
                              "wait-for-state:$WAIT_FOR"}  # fmt: skip
    assert "alsa-state" in nodes(drawn("--show", "stop-on"))[0]
    assert ":start ->" not in drawn("--hide", "start-on,emits")
    assert '[color="#00aa00"]' in drawn("--color-emits", "#00aa00")
    assert nodes(drawn("--restrict-to-events", "filesystem"))[0] == {
        "mountall", "flush-early-job-log", "udev-finish"
    }  # fmt: skip
    assert drawn("--format", "mermaid").startswith("flowchart LR\n")
    assert drawn("--format", "svg").startswith("<svg ")


def test_graph_refuses_what_is_not_there(startup: str, capsys: Capture) -> None:
    assert run(["job", "graph", "--confdir", startup, "-r", "kmdo"]) == 2
    assert "did you mean 'kmod'?" in capsys.readouterr().err
    assert run(["job", "graph", "--confdir", startup, "--hide", "everything"]) == 2
    assert "none of emits, start-on, stop-on, alone" in capsys.readouterr().err

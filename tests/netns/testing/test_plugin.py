"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.lab import driver, remains
from tests.netns.lab.lab_site import probe

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]  # a pytest run within each

DEADLINE_S = 300.0
LAB = """
name: shop
segments: [lan]
roles:
  web: {jobs: {www: python3 -m http.server 80}, files: {/srv/release: "7.2"}}
nodes:
  web1: {role: web}
  web2: {role: web}
  client:
"""
CONFIG = "[pytest]\nhostlab_lab = shop.yaml\n"


class Runs:
    """Pytest in a directory with a lab."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "shop.yaml").write_text(LAB)
        (directory / "pytest.ini").write_text(CONFIG)

    def pytest(self, tests: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.directory / "test_shop.py").write_text(tests)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", *arguments],
            cwd=self.directory,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    yield Runs(tmp_path)
    run = tmp_path / "run"
    left = [entry.name for entry in run.glob("*") if (entry / "journal").exists()]
    for name in left:
        driver.unstage(name)
    assert not left, f"labs are left: {left}"


CHANGES = """
import json, os, pathlib, signal
import pytest
from hostlab.errors import Failed

def remember(lab):
    path = pathlib.Path("pids")
    now = {node.name: node.pid for node in lab}
    before = json.loads(path.read_text()) if path.exists() else now
    path.write_text(json.dumps(now))
    return [name for name in now if before[name] != now[name]]

def test_a_breaks_things_that_are_undone_in_place(lab):
    remember(lab)
    client, web1 = lab["client"], lab["web1"]
    client.execute("setsid sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &")
    web1.job("www", "stop")
    web1.impair("eth0", sending={"loss": 1.0})
    assert client.execute("curl -sm 1 http://web1/").status

def test_b_finds_them_whole_and_changes_files_and_the_network(lab):
    assert remember(lab) == []
    client, web1, web2 = lab["client"], lab["web1"], lab["web2"]
    assert client.execute("pgrep sleep").status
    web1.wait_for_open_port(80)
    client.succeed("curl -s http://web1/")
    client.succeed("touch /etc/new")
    web1.succeed("ip address add 192.0.2.1/24 dev eth0")
    web2.succeed("echo 7.3 > /srv/release")

def test_c_finds_new_nodes(lab):
    assert sorted(remember(lab)) == ["client", "web1", "web2"]
    client, web1, web2 = lab["client"], lab["web1"], lab["web2"]
    assert client.execute("test -e /etc/new").status
    assert "192.0.2.1" not in web1.succeed("ip address")
    assert web2.succeed("cat /srv/release") == "7.2"
    os.kill(web1.pid, signal.SIGKILL)
    web2.succeed("sysctl -qw net.ipv4.conf.eth0.rp_filter=1")
    client.succeed("nft add table ip mine")

def test_d_finds_what_was_killed(lab):
    assert sorted(remember(lab)) == ["client", "web1", "web2"]
    assert "mine" not in lab["client"].succeed("nft list tables")

def test_e_has_the_same_nodes_when_nothing_was_changed(lab):
    assert remember(lab) == []
    lab["client"].succeed("true")

@pytest.mark.hostlab_nodes(role="web")
def test_release(node):
    assert node.succeed("cat /srv/release") == "7.2"

@pytest.mark.hostlab_nodes("cli*")
def test_client(node, subtest):
    with subtest("names"):
        node.succeed("getent hosts web1")

def test_another_lab_beside(lab):
    assert remember(lab) == []

@pytest.mark.hostlab("name: other\\nsegments: [lan]\\nnodes: {a: , b: }\\n", scope="function")
def test_one_of_its_own(lab):
    assert sorted(node.name for node in lab) == ["a", "b"]
    assert lab.name == f"other-{os.getpid()}-2"
"""


def test_a_lab_is_shared_and_set_back_after_each_test(runs: Runs) -> None:
    done = runs.pytest(CHANGES)
    assert done.returncode == 0, done.stdout
    passed = re.findall(r"^PASSED test_shop.py::(\S+)", done.stdout, re.M)
    assert {"test_release[web1]", "test_release[web2]", "test_client[client]"} <= set(passed)
    assert len(passed) == 10


SCOPES = """
import pytest
pytestmark = pytest.mark.hostlab("shop.yaml", scope="session", reset="none")

def test_leaves_something(lab):
    lab["client"].succeed("echo $PPID >> /tmp/left")
    assert lab["client"].succeed("wc -l < /tmp/left").strip() == "1"

def test_finds_it(lab):
    assert lab["client"].succeed("wc -l < /tmp/left").strip() == "1"

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.hostlab("shop.yaml", reset="anew")
def test_anew(lab, number):
    lab["client"].fail("test -e /tmp/left")
    lab["client"].succeed("touch /tmp/left")
"""
OTHER_MODULE = """
import pytest

@pytest.mark.hostlab("shop.yaml", scope="session", reset="none")
def test_the_session_s_lab(lab):
    assert lab["client"].succeed("wc -l < /tmp/left").strip() == "1"
"""


def test_a_session_s_lab_that_is_never_set_back_and_one_that_is_made_anew(runs: Runs) -> None:
    (runs.directory / "test_zoo.py").write_text(OTHER_MODULE)
    done = runs.pytest(SCOPES)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


FAILS = """
import os, pytest
def test_fails(lab, subtest):
    lab["client"].execute("touch /tmp/evidence")
    with subtest("the shop is open"):
        lab["client"].succeed("echo closed >&2; exit 3")

def test_is_failed(subtest):
    with subtest("by pytest itself"):
        pytest.fail("no")

def test_next_one_has_another(lab):
    assert lab["client"].execute("test -e /tmp/evidence").status
"""


def test_a_failed_test_keeps_its_lab_and_says_how_to_enter(runs: Runs) -> None:
    done = runs.pytest(FAILS, "--hostlab-keep")
    assert done.returncode == 1, done.stdout
    assert "in subtest: the shop is open" in done.stdout
    assert "in subtest: by pytest itself" in done.stdout
    assert "PASSED test_shop.py::test_next_one_has_another" in done.stdout
    entered = re.search(r"^enter: hostlab shell ((shop-\d+)/web1)$", done.stdout, re.M)
    assert entered, done.stdout
    assert f"hint: hostlab exec {entered[2]}/client -- sh" in done.stdout
    hostlab = str(Path(sys.executable).with_name("hostlab"))
    words = [hostlab, "exec", f"{entered[2]}/client", "--", "test", "-e", "/tmp/evidence"]
    assert subprocess.run(words, check=False).returncode == 0
    driver.unstage(entered[2])
    assert not remains.marked_processes(entered[2])


CHOSEN = """
def test_which(lab):
    print("lab", lab.name.rpartition("-")[0])

def test_each(node):
    print("node", node.name)
"""


def test_the_options_choose_before_the_module_and_the_ini_file(runs: Runs) -> None:
    def chosen(tests: str, *options: str, what: str) -> list[str]:
        done = runs.pytest(tests, *options)
        assert done.returncode == 0, done.stdout
        return re.findall(rf"^{what} (\S+)$", done.stdout, re.M)

    (runs.directory / "other.yaml").write_text("name: other\nnodes: {a: }\n")
    module = CHOSEN + 'hostlab_lab = "other.yaml"\n'
    assert chosen(CHOSEN, "-k", "which", what="lab") == ["shop"]
    assert chosen(CHOSEN, "-k", "which", "--hostlab-lab", "other.yaml", what="lab") == ["other"]
    assert chosen(module, "-k", "which", what="lab") == ["other"]
    assert chosen(CHOSEN, "--hostlab-role", "web", what="node") == ["web1", "web2"]
    assert chosen(CHOSEN, "--hostlab-role", "web", "--hostlab-host", "*2", what="node") == ["web2"]


TOLD = """
from hostlab.errors import Failed

def of_mine(client):
    client.succeed("echo closed >&2; exit 3")

def test_tells(lab):
    of_mine(lab["client"])

def test_asserts(lab):
    assert lab["client"].execute("exit 3").status == 0

def test_is_late(lab):
    lab["client"].succeed("sleep 1000", timeout_s=0)

def test_asks_for_what_is_not(lab):
    lab["nobody"]

def test_has_another_hint(lab):
    raise Failed("none", "no route", hint=f"look at the router of {lab.name}")

def test_has_no_hint(lab):
    lab["client"].fail("true")

def test_has_a_fault_inside(lab):
    lab["client"].execute("true", directory=object())

def test_a_fixture_of_hostlab_s_own(lab):
    lab.down()
"""


def test_a_failure_ends_with_the_test_s_own_line_and_says_how_the_lab_would_stay(
    runs: Runs,
) -> None:
    done = runs.pytest(TOLD)
    parts = re.split(r"^_+ (?:ERROR at teardown of )?(test_\w+) _+$", done.stdout, flags=re.M)
    told = dict(zip(parts[1::2], parts[2::2], strict=True))
    hint = "run again with --hostlab-keep to look inside"
    beside = "--hostlab-keep leaves the lab of a failed test up"
    assert "hostlab exec" not in done.stdout
    for name, line, message, wanted in (
        ("test_tells", 'client.succeed("echo closed', "ended with status 3: closed", hint),
        ("test_asserts", "assert lab[", "assert 3 == 0", beside),
        ("test_is_late", 'lab["client"].succeed("sleep', "has not ended in time", beside),
        ("test_asks_for_what_is_not", 'lab["nobody"]', "hint: nodes: web1, web2, client", beside),
        ("test_has_another_hint", "raise Failed", "hint: look at the router of shop-", beside),
        ("test_has_no_hint", 'lab["client"].fail(', "succeeded, and was not to", hint),
    ):
        text = told[name]
        assert "hostlab/" not in text, text
        assert re.findall("^> +(.*)", text, re.M)[-1].startswith(line), text
        assert message in text
        assert [hint in text, beside in text] == [wanted == hint, wanted == beside], text
    # hostlab's lines are shown of what it does not tell, and where there is no line of the test's.
    assert "hostlab/lab/access.py" in told["test_has_a_fault_inside"]
    assert "hostlab/testing/shared.py" in told["test_a_fixture_of_hostlab_s_own"]
    assert "hostlab/api.py" in runs.pytest(TOLD, "--full-trace", "-k", "test_tells").stdout


CHECKS = """
import pytest

pytestmark = pytest.mark.hostlab("checked.yaml")

def test_is_true_or_false(lab):
    assert lab.check()

def test_must_hold(lab):
    lab.check().must_hold()
"""


def test_checks_that_hold_pass_and_others_fail(runs: Runs) -> None:
    for port, outcome in ((80, "2 passed"), (81, "2 failed")):
        checks = f"checks: [{{on: web1, listens: {port}, within: 10s}}]\n"
        if port == 81:
            checks = checks.replace("10s", "0s")
        (runs.directory / "checked.yaml").write_text(LAB + checks)
        done = runs.pytest(CHECKS)
        assert outcome in done.stdout, done.stdout
    row = "web1: listens: 81: "
    assert f"assert <Report: 0 of 1 checks hold, 1 does not; {row}nothing listens" in done.stdout
    assert re.search(
        rf"Failed: ✗ \S+checked.yaml:10:\d+: {row}fails: .*\nE +\| .*\n"
        r"E +repeat: hostlab exec shop-\d+/web1.*\nE +0 of 1 checks hold, 1 does not\n",
        done.stdout,
    ), done.stdout


UNSTAGED = """
from hostlab.errors import Failed
from hostlab.testing.shared import SharedLab

calls = []

def enter(self):
    calls.append(self)
    raise Failed("routing", "it does not converge")

SharedLab.__enter__ = enter

def test_first(lab): pass
def test_second(lab): pass
def test_how_often(): assert len(calls) == 1
"""


def test_a_lab_that_cannot_be_staged_is_tried_once(runs: Runs) -> None:
    done = runs.pytest(UNSTAGED)
    assert "1 passed, 2 errors" in done.stdout, done.stdout
    assert done.stdout.count("\nit does not converge") == 1
    assert done.stdout.count("\nas for the test before: it does not converge") == 1


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("option", "word", "said"),
    [
        ("--hostlab-host", "web9", "no node is called web9; there are: web1, web2, client"),
        ("--hostlab-role", "wep", "no node has the role wep; there are: web"),
    ],
)
def test_a_choice_that_no_lab_has_is_no_success(
    runs: Runs, option: str, word: str, said: str, workers: tuple[str, ...]
) -> None:
    done = runs.pytest("def test_each(node): pass\n", option, word, *workers)
    assert done.returncode not in (0, pytest.ExitCode.NO_TESTS_COLLECTED), done.stdout
    assert said in done.stdout + done.stderr


WORKERS = """
import pytest
@pytest.mark.parametrize("number", range(4))
def test_name(lab, number, worker_id):
    print("lab", lab.name, worker_id)
    lab["client"].succeed("ping -c 1 -w 20 web1")
"""


def test_workers_of_xdist_have_labs_of_their_own(runs: Runs) -> None:
    done = runs.pytest(WORKERS, "-n", "2")
    assert done.returncode == 0, done.stdout
    found = dict(re.findall(r"^lab (\S+) (gw\d)$", done.stdout, re.M))
    assert sorted(found.values()) == ["gw0", "gw1"]


WRONG = r"""
import pytest

@pytest.mark.hostlab("none.yaml")
def test_no_file(lab): pass

@pytest.mark.hostlab("nodes:\n  a: {jbs: }\n")
def test_no_description(lab): pass

@pytest.mark.hostlab(scope="class")
def test_no_scope(lab): pass
"""


def test_what_cannot_be_is_told_without_a_traceback(runs: Runs) -> None:
    done = runs.pytest(WRONG)
    for said in ("no such file: /", "<test>:2:7: unknown", "Invalid enum value 'class'"):
        assert said in done.stdout
    assert "3 errors" in done.stdout, done.stdout
    assert "labs.py" not in done.stdout


@pytest.mark.parametrize(
    ("marker", "said"),
    [("hostlab('none.yaml')", "no such file: /"), ("hostlab_nodes('db*')", "like db*")],
)
def test_nodes_that_cannot_be_are_told_when_tests_are_collected(
    runs: Runs, marker: str, said: str
) -> None:
    done = runs.pytest(f"import pytest\n@pytest.mark.{marker}\ndef test_x(node): pass\n")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert ".py:" not in done.stdout.replace("test_shop.py::", ""), done.stdout


def test_a_run_without_any_lab_loads_nothing_of_it(runs: Runs) -> None:
    done = runs.pytest("import sys\ndef test_x():\n    assert 'hostlab.api' not in sys.modules\n")
    assert done.returncode == 0, done.stdout

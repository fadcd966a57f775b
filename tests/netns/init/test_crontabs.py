"""Tables of cron as they are, run by an init: who may say what, changes, users, input."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hostlab.init.crontabs import read_tables
from hostlab.spec.job import Match
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = pytest.mark.netns

SYSTEM = """\
# As Debian ships it.
SHELL=/bin/sh
RUNS=/bin:/usr/bin
17 *	* * *	root	cd / && run-parts --report /etc/cron.hourly
@daily	root	echo daily
@reboot	root	echo "up as $LOGNAME in $PWD, $RUNS"%with input
"""
NOBODY = 65534


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for name in ("cron.d", "crontabs"):
        (tmp_path / name).mkdir()
    (tmp_path / "crontab").write_text(SYSTEM)
    return tmp_path


def paths(root: Path) -> list[str]:
    return [str(root / name) for name in ("crontab", "cron.d", "crontabs", "absent")]


def table(root: Path, name: str, text: str, mode: int = 0o644, owner: int | None = None) -> None:
    path = root / name
    path.write_text(text)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)


def test_which_tables_are_read(tables: Path) -> None:
    line = "5 4 * * 0 nobody true\n"
    table(tables, "cron.d/php", "RANDOM_DELAY=5\n" + line)
    table(tables, "cron.d/php.dpkg-old", line)
    table(tables, "cron.d/.placeholder", line)
    jobs, errors = read_tables(paths(tables))
    assert errors == set()
    first = f"{tables.name}/crontab"
    assert {job.name: job.user for job in jobs} == {
        f"{first}.4": "root", f"{first}.5": "root", f"{first}.6": "root", "cron.d/php.2": "nobody",
    }  # fmt: skip
    assert [job.start_on and job.start_on.matches for job in jobs] == [
        (Match("timer", ("CRON=17 * * * *",)),),
        (Match("timer", ("CRON=0 0 * * *",)),),
        (Match("startup"),),
        (Match("timer", ("CRON=5 4 * * 0", "DELAY=5m")),),
    ]


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("chown is root's")


def test_whose_tables_are_refused(tables: Path) -> None:
    """As by Debian's cron: nobody can have commands run as somebody else."""
    needs_root()
    mine, others = "@daily true\n", "@daily root true\n"
    table(tables, "cron.d/foreign", others, owner=NOBODY)
    table(tables, "cron.d/open", others, 0o664)
    (tables / "cron.d" / "fifo").symlink_to("/dev/null")
    table(tables, "crontabs/nobody", mine, 0o600, owner=NOBODY)
    table(tables, "crontabs/root", mine, 0o600, owner=NOBODY)
    table(tables, "crontabs/daemon", mine, 0o644, owner=1)
    table(tables, "crontabs/nosuchuser", mine, 0o600)
    table(tables, "crontabs/bin", mine, 0o600, owner=2)
    (tables / "crontabs" / "sys").hardlink_to(tables / "crontabs" / "bin")
    jobs, errors = read_tables(paths(tables)[1:])
    assert [(job.name, job.user) for job in jobs] == [("crontabs/nobody.1", "nobody")]
    assert {text.removeprefix(f"{tables}/") for text in errors} == {
        "cron.d/foreign: it is not run: its owner is user 65534, not root",
        "cron.d/open: it is not run: others can write it (mode 0664)",
        "cron.d/fifo: it is not run: it is no regular file",
        "crontabs/root: it is not run: its owner is user 65534, not root",
        "crontabs/daemon: it is not run: its mode is 0644, not 0600",
        "crontabs/nosuchuser: it is not run: there is no user nosuchuser",
        "crontabs/bin: it is not run: it has another name, too",
        "crontabs/sys: it is not run: it has another name, too",
    }


def test_a_session_runs_its_own_commands_only(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    table(tables, "cron.d/a", "@daily root true\n", owner=NOBODY if os.getuid() == 0 else None)
    jobs, errors = read_tables(paths(tables)[1:])
    assert jobs == ()
    (text,) = errors
    assert text.endswith("a session of nobody runs no commands of root")


def test_a_mistake_has_its_place(tables: Path) -> None:
    table(tables, "cron.d/bad", "* * * * * root true\n61 * * * * root true\n* * * root\n")
    jobs, errors = read_tables(paths(tables)[1:])
    assert jobs == ()
    assert sorted(text.partition(": ")[0] for text in errors) == [
        f"{tables}/cron.d/bad:2:1", f"{tables}/cron.d/bad:3:11",
    ]  # fmt: skip


def logged(alone: Alone, job: str) -> str:
    path = alone.logs / f"{job.replace('/', '_')}.log"
    return path.read_text() if path.exists() else ""


def test_cron_is_replaced(tables: Path) -> None:
    """A line of the start, one that comes each minute, one that is written later; and a death."""
    words = [word for path in paths(tables)[:2] for word in ("--crontab", path)]
    first = f"{tables.name}/crontab"
    with standing(tables, {}, words=["--confdir", str(tables / "jobs"), "--logdir",
                                     str(tables / "logs"), *words]) as alone:  # fmt: skip
        wait_until(lambda: logged(alone, f"{first}.6") != "", "the line of the start")
        assert logged(alone, f"{first}.6") == "up as root in /root, /bin:/usr/bin\n"
        names = {row["name"] for row in alone.table()}
        assert names == {f"{first}.4", f"{first}.5", f"{first}.6"}
        table(tables, "cron.d/new", "* * * * * root cat; echo ran as $LOGNAME%one%two\n")
        wait_until(lambda: "cron.d/new.1" in {row["name"] for row in alone.table()}, "a new table")
        os.kill(alone.supervisor, signal.SIGKILL)
        (tables / "crontab").unlink()
        wait_until(lambda: {row["name"] for row in alone.table()} == {"cron.d/new.1"}, "one to go")
        table(tables, "cron.d/new", "bad\n")
        wait_until(lambda: "cron.d/new:1:" in alone.own_log, "a mistake to be told")
        wait_until(lambda: alone.table() == [], "what had begun to end")

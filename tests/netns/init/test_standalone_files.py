"""Job files that change while an init runs: by inotify, and when it is asked to read them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = pytest.mark.netns

WEB = {"web": "start on startup\nenv A=old\nexec sh -c 'echo $A; exec sleep 1000'"}


def names(alone: Alone) -> set[str]:
    return {row["name"] for row in alone.table()}


def wait_names(alone: Alone, *expected: str) -> None:
    wait_until(lambda: names(alone) == set(expected), f"{expected} instead of {names(alone)}")


def said(alone: Alone, count: int) -> list[str]:
    """What `web` has written, once it is so many lines."""
    log = alone.logs / "web.log"
    wait_until(lambda: log.exists() and log.read_text().count("\n") == count, f"{count} lines")
    return log.read_text().split()


def wait_read(alone: Alone) -> None:
    """Until what was written so far has been read: what comes after it has."""
    (alone.jobs / "mark.conf").write_text("exec true")
    wait_until(lambda: "mark" in names(alone), "the mark")
    (alone.jobs / "mark.conf").unlink()
    wait_until(lambda: "mark" not in names(alone), "no mark")


def shown(alone: Alone, job: str) -> str:
    return alone.initctl("show-config", job)[1]


def test_new_and_deleted(tmp_path: Path) -> None:
    with standing(tmp_path, WEB) as alone:
        alone.job("new", "start on startup\nexec sleep 1000")
        wait_names(alone, "web", "new")
        assert alone.row("new")["state"] == "waiting", "its event is long gone"
        alone.client.job("new", "start")
        (alone.jobs / "new.conf").unlink()
        (alone.jobs / "web.conf").rename(alone.jobs / "web.conf.old")
        # A running instance goes on without its file, and its job goes with it.
        wait_read(alone)
        assert alone.row("new")["state"] == "running"
        alone.client.job("new", "stop")
        alone.client.job("web", "stop")
        wait_names(alone)


def test_changed(tmp_path: Path) -> None:
    """The running instance keeps its class, also over a restart; a stop and a start change it."""
    with standing(tmp_path, WEB) as alone:
        assert said(alone, 1) == ["old"]
        web = alone.pid("web")
        alone.job("web", WEB["web"].replace("old", "new") + "\nemits changed")
        wait_read(alone)
        assert alone.pid("web") == web
        alone.client.job("web", "restart")
        assert said(alone, 2) == ["old", "old"]
        alone.client.job("web", "stop")
        alone.client.job("web", "start")
        assert said(alone, 3) == ["old", "old", "new"]


def test_overrides(tmp_path: Path) -> None:
    with standing(tmp_path, WEB) as alone:
        assert said(alone, 1) == ["old"]
        override = alone.jobs / "web.override"
        override.write_text("manual\nenv A=over\n")
        wait_read(alone)
        alone.client.job("web", "stop")
        assert "start on" not in shown(alone, "web")
        alone.client.emit("startup")
        assert alone.row("web")["state"] == "stopped"
        alone.client.job("web", "start")
        assert said(alone, 2) == ["old", "over"]
        override.unlink()
        wait_read(alone)
        alone.client.job("web", "stop")
        alone.client.job("web", "start")
        assert said(alone, 3)[-1] == "old"


def by_rename(path: Path, text: str) -> None:
    """As most editors do: a new file in the place of the old one."""
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(text)
    path.rename(path.with_name(f"{path.name}~"))
    beside.rename(path)


def in_place(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.truncate()
        file.write(text)


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_editors(tmp_path: Path, save: Callable[[Path, str], None]) -> None:
    with standing(tmp_path, {"web": "exec true"}) as alone:
        for number in range(3):
            save(alone.jobs / "web.conf", f"emits saved-{number}\nexec true")
            wait_read(alone)
            assert f"emits saved-{number}" in shown(alone, "web")
        assert names(alone) == {"web"}
        assert alone.own_log == ""


def test_directories_that_come_and_go(tmp_path: Path) -> None:
    """One that is there later, deep below what is there; a new one in one; one made anew."""
    later = tmp_path / "not" / "there" / "yet"
    (tmp_path / "attic").mkdir()
    words = ("--confdir", str(tmp_path / "jobs"), "--append-confdir", str(later),
             "--logdir", str(tmp_path / "logs"))  # fmt: skip
    with standing(tmp_path, WEB, words=words) as alone:
        later.mkdir(parents=True)
        (later / "late.conf").write_text("exec true")
        wait_names(alone, "web", "late")
        (alone.jobs / "net").mkdir()
        (alone.jobs / "net" / "deep.conf").write_text("exec true")
        wait_names(alone, "web", "late", "net/deep")
        (alone.jobs / "net").rename(tmp_path / "away")
        wait_names(alone, "web", "late")
        (later / "late.conf").unlink()
        for place in (later, later.parent, later.parent.parent):
            place.rmdir()
        wait_names(alone, "web")
        for number in range(5):
            later.mkdir(parents=True)
            (later / f"again{number}.conf").write_text("exec true")
            wait_names(alone, "web", f"again{number}")
            # To where nobody looks.
            later.rename(tmp_path / "attic" / f"gone{number}")
            wait_names(alone, "web")


def test_first_directory_owns_a_name(tmp_path: Path) -> None:
    """Also one that a file comes into later, or goes from."""
    first = tmp_path / "first"
    first.mkdir()
    words = ("--confdir", str(tmp_path / "jobs"), "--prepend-confdir", str(first),
             "--logdir", str(tmp_path / "logs"))  # fmt: skip
    with standing(tmp_path, {"web": "emits second\nexec true"}, words=words) as alone:
        (first / "web.conf").write_text("emits first\nexec true")
        wait_until(lambda: "emits first" in shown(alone, "web"), "the first")
        (first / "web.conf").unlink()
        wait_until(lambda: "emits second" in shown(alone, "web"), "the second")


def test_broken_and_mended(tmp_path: Path) -> None:
    """A file that cannot be meant any more takes its job away, but not what runs of it."""
    with standing(tmp_path, WEB) as alone:
        assert said(alone, 1) == ["old"]
        web = alone.pid("web")
        alone.job("web", "exec 'sleep\n")
        wait_until(lambda: "web.conf:1:" in alone.own_log, "the error")
        assert alone.pid("web") == web
        alone.job("web", WEB["web"].replace("old", "mended"))
        wait_read(alone)
        alone.client.job("web", "stop")
        alone.client.job("web", "start")
        assert said(alone, 2) == ["old", "mended"]


def test_a_thousand_changes(tmp_path: Path) -> None:
    with standing(tmp_path, WEB) as alone:
        for number in range(1000):
            alone.job(f"job{number % 50}", f"emits number-{number}\nexec true")
        wait_until(lambda: len(names(alone)) == 51, "all jobs")
        wait_until(lambda: "emits number-999" in shown(alone, "job49"), "the last change")
        os.kill(alone.supervisor, signal.SIGKILL)
        alone.job("job49", "emits after-the-kill\nexec true")
        wait_until(lambda: "emits after-the-kill" in shown(alone, "job49"), "a change meanwhile")


@pytest.mark.parametrize("way", ["initctl", "hangup", "prompt"])
def test_on_request(tmp_path: Path, way: str) -> None:
    """A change that inotify does not tell of: through a link to a directory elsewhere."""
    with standing(tmp_path, WEB) as alone:
        elsewhere = tmp_path / "elsewhere.conf"
        elsewhere.write_text("emits one\nexec true")
        (alone.jobs / "linked.conf").symlink_to(elsewhere)
        wait_until(lambda: "emits one" in shown(alone, "linked"), "the linked file")
        elsewhere.write_text("emits two\nexec true")
        if way == "initctl":
            assert alone.initctl("reload-configuration")[0] == 0
            assert "emits two" in shown(alone, "linked")
        elif way == "prompt":
            with alone.client.control() as control:
                control.call("reload-configuration")
            assert "emits two" in shown(alone, "linked")
        else:
            os.kill(alone.holder, signal.SIGHUP)
            wait_until(lambda: "emits two" in shown(alone, "linked"), "the changed file")

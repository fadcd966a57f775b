"""The source of files on the kernel's own inotify: Upstart's meaning, and what can go wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hostlab.init import watches
from hostlab.init.sources.file import FileSource
from hostlab.init.watches import Watches
from hostlab.linux.inotify import Inotify
from hostlab.spec.job import Match
from tests.netns.init.source_site import DEADLINE_S, Init, counted_turns, finish

pytestmark = pytest.mark.netns

MARK = "mark"
Told = tuple[str, ...]


class Files(Init):
    """An init that listens to files below a directory; what it was told is short."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.source: FileSource | None = None

    def operand(self, text: str) -> Match:
        """`FILE=a EVENT=create` with the directory before the path."""
        first, *others = text.split()
        key, _, path = first.partition("=")
        return Match("file", (f"{key}={self.root}/{path}", *others))

    def short(self) -> list[Told]:
        """Event, path below the directory, and what matched."""
        found = []
        for emit in self.told:
            values = dict(emit.environment)
            if MARK not in values["FILE"]:
                paths = (values["FILE"], *([values["MATCH"]] if "MATCH" in values else []))
                names = (path.removeprefix(f"{self.root}/") for path in paths)
                found.append((values["EVENT"], *names))
        self.told.clear()
        return found

    async def happened(self) -> list[Told]:
        """Everything up to now: a file that is made behind it is told behind it."""
        (self.root / MARK).touch()
        async with asyncio.timeout(DEADLINE_S):
            while not any(MARK in dict(emit.environment)["FILE"] for emit in self.told):
                self.changed.clear()
                await self.changed.wait()
        (self.root / MARK).unlink()
        async with asyncio.timeout(DEADLINE_S):
            while dict(self.told[-1].environment)["EVENT"] != "delete":
                self.changed.clear()
                await self.changed.wait()
        return self.short()


@asynccontextmanager
async def listening(init: Files, *operands: str) -> AsyncIterator[FileSource]:
    """A source that a supervisor's death ends: what is kept stays."""
    source = FileSource(init.surroundings())
    try:
        source.listen(
            frozenset({init.operand(f"FILE={MARK}"), *(init.operand(each) for each in operands)})
        )
        yield source
    finally:
        kept = {name: os.dup(fd) for name, fd in init.kept.items()}
        source.close()
        init.kept.update(kept)


def run(root: Path, test: Callable[[Files], Awaitable[None]]) -> Files:
    async def main() -> Files:
        init = Files(root)
        try:
            await test(init)
        finally:
            finish(init)
        return init

    return asyncio.run(main())


def test_a_files_life(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        async with listening(init, "FILE=a", "FILE=only EVENT=delete"):
            path, only = tmp_path / "a", tmp_path / "only"
            with path.open("w") as file:
                assert await init.happened() == [], "it is written to"
                file.write("x")
            assert await init.happened() == [("create", "a")]
            path.write_text("y")
            only.write_text("x")
            (tmp_path / "other").write_text("x")
            assert await init.happened() == [("modify", "a")]
            path.unlink()
            only.rename(tmp_path / "away")
            assert await init.happened() == [("delete", "a"), ("delete", "only")]

    assert run(tmp_path, life).warnings == []


def test_what_nobody_closes_is_there_at_once(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        (tmp_path / "from").write_text("x")
        async with listening(init, *(f"FILE={name} EVENT=create" for name in "dlhsm")):
            (tmp_path / "d").mkdir()
            (tmp_path / "l").symlink_to("d")
            (tmp_path / "h").hardlink_to(tmp_path / "from")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(tmp_path / "s"))
            (tmp_path / "from").rename(tmp_path / "m")
            assert await init.happened() == [("create", name) for name in "dlhsm"]

    run(tmp_path, life)


def test_one_that_takes_anothers_place(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        (tmp_path / "a").write_text("old")
        (tmp_path / "new").write_text("new")
        async with listening(init, "FILE=a EVENT=modify", "FILE=a EVENT=delete"):
            (tmp_path / "new").rename(tmp_path / "a")
            assert await init.happened() == [("modify", "a")]

    run(tmp_path, life)


def test_a_pattern(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        (tmp_path / "old.crash").touch()
        async with listening(init, "FILE=*.crash EVENT=create", "FILE=[ab] EVENT=!delete"):
            assert init.short() == [("create", "*.crash", "old.crash")]
            for name in ("new.crash", "crash", "b"):
                (tmp_path / name).touch()
            assert await init.happened() == [("create", "*.crash", "new.crash")]

    assert len(run(tmp_path, life).warnings) == 1, "EVENT=!delete is none"


def test_a_directory(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        async with listening(init, "FILE=d/"):
            inside = tmp_path / "d"
            inside.mkdir()
            assert await init.happened() == [("create", "d/")]
            # Of two like events that follow each other the kernel tells one (inotify(7)).
            for name in ("a", "b", "a"):
                (inside / name).write_text("x")
            (inside / "a").unlink()
            assert await init.happened() == [("modify", "d/", f"d/{name}") for name in "abaa"]
            inside.rename(tmp_path / "away")
            assert await init.happened() == [("delete", "d/")]
            (tmp_path / "away" / "b").touch()
            inside.mkdir()
            assert await init.happened() == [("create", "d/")]

    run(tmp_path, life)


def test_what_is_there_when_a_job_comes(tmp_path: Path) -> None:
    """It counts as created, for the job that comes; another supervisor is no new job."""

    async def life(init: Files) -> None:
        for name in ("a", "b"):
            (tmp_path / name).touch()
        words = ("FILE=a", "FILE=b EVENT=modify", "FILE=c EVENT=create")
        async with listening(init, *words) as source:
            assert init.short() == [("create", "a")]
            more = [init.operand(each) for each in (*words, f"FILE={MARK}", "FILE=b EVENT=create")]
            source.listen(frozenset(more))
            assert init.short() == [("create", "b")]
        async with listening(init, *words, "FILE=b EVENT=create"):
            assert init.short() == []

    run(tmp_path, life)


def test_what_happened_while_there_was_no_supervisor(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        for name in ("gone", "same", "changed", "x.log"):
            (tmp_path / name).touch()
        words = [f"FILE={name}" for name in ("gone", "same", "changed", "new", "*.log")]
        async with listening(init, *words):
            init.short()
            (tmp_path / "same").write_text("told")
            assert await init.happened() == [("modify", "same")]
        (tmp_path / "gone").unlink()
        (tmp_path / "changed").write_text("x")
        (tmp_path / "new").touch()
        (tmp_path / "y.log").touch()
        async with listening(init, *words):
            assert sorted(init.short()) == [
                ("create", "*.log", "y.log"), ("create", "new"), ("delete", "gone"),
                ("modify", "changed"),
            ]  # fmt: skip

    run(tmp_path, life)


def test_parents_that_appear_and_disappear(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"

    async def life(init: Files) -> None:
        async with listening(init, "FILE=a/b/c/f"):
            deep.mkdir(parents=True)
            (deep / "f").touch()
            await init.wait_told(1)
            assert init.short() == [("create", "a/b/c/f")]
            (tmp_path / "a").rename(tmp_path / "moved")
            await init.wait_told(1)
            assert init.short() == [("delete", "a/b/c/f")]
            (tmp_path / "moved" / "b" / "c" / "f").write_text("nobody's any more")
            deep.mkdir(parents=True)
            (deep / "f").touch()
            await init.wait_told(1)
            assert init.short() == [("create", "a/b/c/f")]
            shutil.rmtree(tmp_path / "a")
            await init.wait_told(1)
            assert init.short() == [("delete", "a/b/c/f")]

    run(tmp_path, life)


def test_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    async def life(init: Files) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        (tmp_path / "two" / "f").touch()
        (tmp_path / "way").symlink_to("one")
        async with listening(init, "FILE=way/f"):
            (tmp_path / "new").symlink_to("two")
            (tmp_path / "new").rename(tmp_path / "way")
            await init.wait_told(1)
            assert init.short() == [("create", "way/f")]

    run(tmp_path, life)


def test_a_full_queue_is_looked_at_anew(tmp_path: Path) -> None:
    """While the loop is busy more happens than the kernel remembers."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def life(init: Files) -> None:
        async with listening(init, "FILE=last"):
            for number in range(most // 2 + 100):
                path = tmp_path / f"n{number % 7}"
                path.touch()
                path.unlink()
            (tmp_path / "last").touch()
            await init.wait_told(1)
            assert init.short() == [("create", "last")]

    run(tmp_path, life)


def test_nothing_is_left_to_watch_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are the machine's, so they are not used up: the call fails as it would then."""

    async def life(init: Files) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Inotify, "add", refuse)
            async with listening(init, "FILE=a/f"):
                pass

    def refuse(self: Inotify, path: str, mask: int) -> int:
        raise OSError(28, os.strerror(28), path)

    (tmp_path / "a").mkdir()
    warnings = run(tmp_path, life).warnings
    assert [text.partition(": ")[0] for text in warnings] == [
        f"changes of {tmp_path}/a go unseen", f"changes of {tmp_path} go unseen",
    ]  # fmt: skip
    assert "fs.inotify.max_user_watches" in warnings[0]


def test_one_instance_for_all(tmp_path: Path) -> None:
    """Whoever watches: and none is left when nobody does."""

    async def life(init: Files) -> None:
        shared = Watches(init.warnings.append)
        trail = watches.watch_path(shared, str(tmp_path / "x"), lambda: None)
        async with listening(init, "FILE=a", "FILE=b/"):
            pass
        trail.close()
        assert shared.count == 0
        shared.close()

    run(tmp_path, life)


def test_it_sleeps_while_nothing_happens(tmp_path: Path) -> None:
    """A thousand watched paths in busy company: no event, no wake-up."""
    (tmp_path / "d").mkdir()

    async def life(init: Files) -> None:
        names = [f"FILE=d/f{number}" for number in range(1000)]
        async with listening(init, *names):
            await init.happened()
            loop = asyncio.get_running_loop()
            with counted_turns() as turns:
                await loop.run_in_executor(None, work)
            # Three are for the end of the other thread.
            assert turns[0] <= 6
            assert init.short() == []

    def work() -> None:
        # Reads of what is watched, and writes beside it.
        (tmp_path / "beside").mkdir()
        for number in range(200):
            (tmp_path / "beside" / f"f{number}").touch()
            os.listdir(tmp_path / "d")

    run(tmp_path, life)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("EVENT=create",), "which file is not said"),
        (("FILE=a",), "`a` is no absolute path"),
        (("FILE=/a*/b",), "`/a*/b` has a pattern for a directory"),
        (("FILE=/a/../b",), "`/a/../b` is no plain path"),
        (("FILE=/a", "EVENT=creat"), "`creat` never happens to a file"),
        (("FILE=/a", "MODE=1"), "`MODE=1` says nothing about a file"),
    ],
)
def test_a_mistake_costs_its_own_file_only(words: tuple[str, ...], message: str) -> None:
    async def main() -> None:
        init = Init()
        source = FileSource(init.surroundings())
        operands = frozenset({Match("file", words), Match("file", ("FILE=/etc/passwd",))})
        source.listen(operands)
        source.listen(operands | {Match("file", ("FILE=/nowhere/f",))})
        assert len(init.told) == 1
        assert [text.partition(": ")[2].partition(" (")[0] for text in init.warnings] == [message]
        source.close()
        finish(init)

    asyncio.run(main())

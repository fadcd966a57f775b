"""enable, disable, mask and is-enabled beside systemd's own systemctl, on the same files."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hostlab.init.initctl.surroundings import Command
from hostlab.init.systemctl.program import Systemctl
from hostlab.init.units.library import Library
from hostlab.spec.model import Units as Wanted
from hostlab.spec.systemd.specifiers import Machine

pytestmark = pytest.mark.netns

FILES = {
    "web.service": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    "Alias=www.service\nAlso=w.socket\n",
    "w.socket": "[Socket]\nListenStream=80\n[Install]\nWantedBy=sockets.target\n",
    "static.service": "[Service]\nExecStart=/bin/true\n",
    "t@.service": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    "DefaultInstance=d\n",
    "needed.service": "[Service]\nExecStart=/bin/true\n[Install]\nRequiredBy=web.service\n",
    "also.service": "[Service]\nExecStart=/bin/true\n[Install]\nAlso=web.service\n",
    "multi-user.target": "[Unit]\nDescription=many\n",
    "sockets.target": "[Unit]\nDescription=sockets\n",
}
CALLS = (
    "is-enabled web.service static.service t@.service t@x.service also.service w.socket",
    "is-enabled no.service",
    "enable web",
    "enable web",
    "is-enabled web www.service w.socket",
    "enable static",
    "enable t@.service t@x needed",
    "is-enabled t@.service t@x.service t@y.service needed",
    "list-unit-files --no-legend",
    "list-unit-files --no-legend --state=enabled w*",
    "disable web needed",
    "disable web",
    "mask web",
    "is-enabled web",
    "unmask web",
    "reenable web",
    "preset also",
    "disable t@.service",
    "is-enabled t@x.service t@d.service",
    "disable also",
    "mask nothing",
    "unmask nothing",
)


@pytest.fixture
def both(tmp_path: Path) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    """systemd's systemctl and ours, each on its own copy of the files."""
    program = shutil.which("systemctl")
    if program is None:
        pytest.skip("no systemctl of systemd to compare with")
    roots = [tmp_path / name for name in ("theirs", "ours")]
    for root in roots:
        for place in ("etc/systemd/system", "usr/lib/systemd/system", "run/systemd/system"):
            (root / place).mkdir(parents=True)
        for name, text in FILES.items():
            (root / "usr/lib/systemd/system" / name).write_text(text)
    return theirs(program, roots[0]), ours(roots[1])


def theirs(program: str, root: Path) -> Callable[[str], Any]:
    def run(call: str) -> tuple[int, list[str], list[str]]:
        words = [program, f"--root={root}", *call.split()]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode, plain(done.stdout, root), plain(done.stderr, root)

    return run


def ours(root: Path) -> Callable[[str], Any]:
    places = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system")
    directories = [f"{root}/{place}" for place in places]
    library = Library(directories, machine=Machine)

    async def refresh() -> None:
        library.forget()

    units = SimpleNamespace(
        library=library,
        wanted=Wanted(directories=tuple(directories)),
        look=library.forget,
        refresh=refresh,
        find=library.unit,
        loaded={},
        job_names=(),
    )
    place = SimpleNamespace(is_user=True, environment={})
    supervisor = SimpleNamespace(units=units, place=place)
    systemctl = Systemctl(cast("Any", supervisor))

    def run(call: str) -> tuple[int, list[str], list[str]]:
        command = Command("systemctl", tuple(call.split()), "token", 0.0, {})
        answer = asyncio.run(systemctl.run(command))
        return answer.status, plain(answer.out, root), plain(answer.err, root)

    return run


def plain(text: str, root: Path) -> list[str]:
    """What was printed, less what tells of the root and of targets that are not there."""
    words = [" ".join(line.replace(str(root), "").split()) for line in text.splitlines()]
    return sorted(word for word in words if "is added as a dependency" not in word)


def test_the_same_calls_have_the_same_answers(
    both: tuple[Callable[[str], Any], Callable[[str], Any]], tmp_path: Path
) -> None:
    one, other = both
    for call in CALLS:
        assert other(call) == one(call), call
        links = [
            {str(each.relative_to(tmp_path / name)) for each in (tmp_path / name).rglob("*")
             if each.is_symlink()}
            for name in ("theirs", "ours")
        ]  # fmt: skip
        assert links[1] == links[0], call

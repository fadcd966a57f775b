"""Debian packages for tests, downloaded once into a folder outside of the project.

Nothing is installed and nothing of the machine is changed: apt is asked for the files alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

DOWNLOAD_S = 300.0
AT_ONCE = 100
"""Packages that one call of apt-get is asked for."""


def cache(name: str) -> Path:
    """A folder that outlives the test run; `HOSTLAB_CACHE` says where."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = Path(os.environ.get("HOSTLAB_CACHE") or f"{base}/hostlab-tests", name)
    place.mkdir(parents=True, exist_ok=True)
    return place


def downloaded(names: Sequence[str]) -> list[Path]:
    """The packages of these names as the machine's apt sources have them, without what they need.

    A package that is in the cache already is not asked for again, whatever its version.
    """
    place = cache("packages")
    missing = [name for name in names if not _found(place, name)]
    for start in range(0, len(missing), AT_ONCE):
        _apt(place, "download", *missing[start : start + AT_ONCE])
    return [path for name in names for path in _found(place, name)]


def repository(place: Path, names: Sequence[str]) -> None:
    """Make a folder a flat package repository of these packages and of what they need that the
    machine lacks."""
    archives = cache("archives")
    (archives / "partial").mkdir(exist_ok=True)
    install = ("install", "--no-install-recommends", "--yes", *names)
    # Asked beside an empty cache, for what is in the cache is not printed.
    printed = _apt(archives / "none", *install, "--print-uris")
    wanted = [line.split()[1] for line in printed.splitlines() if line.startswith("'")]
    if not all((archives / name).exists() for name in wanted):
        _apt(archives, *install, "--download-only")
    for name in wanted:
        shutil.copy(archives / name, place)
    (place / "Packages").write_text("\n".join(_paragraph(place / name) for name in wanted))


def _found(place: Path, name: str) -> list[Path]:
    return sorted(place.glob(f"{name}_*.deb"))


def _paragraph(path: Path) -> str:
    """What `dpkg-scanpackages` says of a file; that program would need 100 MB of compilers."""
    fields = subprocess.run(
        ["dpkg-deb", "--field", path], capture_output=True, check=True, text=True
    ).stdout.rstrip()
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return f"{fields}\nFilename: ./{path.name}\nSize: {len(data)}\nSHA256: {digest}\n"


def _apt(place: Path, *words: str) -> str:
    """Run apt-get without its locks, which guard what is not written here.

    The machine's lists of packages may be old, or none: then it is asked with lists of our own.
    """
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get to download packages with")
    options = ["-o", f"Dir::Cache::archives={place}"]
    where = place if place.exists() else Path("/")
    done = _called(where, *options, *words)
    if done.returncode:
        lists = cache("lists")
        (lists / "partial").mkdir(exist_ok=True)
        options += ["-o", f"Dir::State::lists={lists}"]
        _called(where, *options, "update")
        done = _called(where, *options, *words)
    if done.returncode:
        pytest.skip(f"packages cannot be downloaded: {done.stderr[-400:]}")
    return done.stdout


def _called(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "-qq", "-o", "Debug::NoLocking=1", *words],
        cwd=where,
        capture_output=True,
        check=False,
        text=True,
        timeout=DOWNLOAD_S,
    )

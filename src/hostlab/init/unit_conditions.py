"""Judging the conditions of a unit where its job is about to start (systemd.unit(5)).

They are looked at as the supervisor sees the node. One that cannot be judged here holds, and a
warning says so: a daemon that does not start for an unknown reason is the worse mistake.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import platform
import re
import stat
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from hostlab.errors import UsageError
from hostlab.linux.capabilities import bounding_set, mask_of
from hostlab.spec.job import Requirement

OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
_COMPARISON: Final = re.compile(r"\s*(<=|>=|!=|<|=|>)\s*")
_ARCHITECTURES: Final = {"x86_64": "x86-64", "i686": "x86", "aarch64": "arm64", "armv7l": "arm",
                         "riscv64": "riscv64", "s390x": "s390x", "ppc64le": "ppc64-le"}  # fmt: skip
_SIZES: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    holds: bool
    asserted: bool = False
    """What does not hold is an assertion, so the start has failed."""
    why: str = ""
    warnings: tuple[str, ...] = ()


def judge(requirements: Iterable[Requirement]) -> Judged:
    """Whether everything holds that a job needs to start.

    Of those marked as triggering one is enough; every other one must hold. Assertions and
    conditions are judged apart, assertions first.
    """
    listed = tuple(requirements)
    warnings: list[str] = []
    for asserted in (True, False):
        group = [each for each in listed if each.asserted is asserted]
        failed = [each for each in group if not _holds(each, warnings)]
        plain = [each for each in failed if not each.triggering]
        triggers = [each for each in group if each.triggering]
        if plain or (triggers and all(each in failed for each in triggers)):
            why = _text(plain[0] if plain else triggers[0])
            return Judged(holds=False, asserted=asserted, why=why, warnings=tuple(warnings))
    return Judged(holds=True, warnings=tuple(warnings))


def _text(requirement: Requirement) -> str:
    word = "Assert" if requirement.asserted else "Condition"
    mark = "!" if requirement.negated else ""
    return f"{word}{requirement.kind}={mark}{requirement.value} does not hold"


def _holds(requirement: Requirement, warnings: list[str]) -> bool:
    test = _TESTS.get(requirement.kind)
    if test is None:
        warnings.append(f"Condition{requirement.kind}= cannot be judged here; it holds")
        return True
    try:
        found = test(requirement.value)
    except (OSError, ValueError, UsageError):
        found = False
    return found is not requirement.negated


def _is_mode(test: Callable[[int], bool]) -> Callable[[str], bool]:
    return lambda path: test(os.stat(path).st_mode)


def _is_read_write(path: str) -> bool:
    return not os.statvfs(path).f_flag & os.ST_RDONLY


def _is_executable(path: str) -> bool:
    mode = os.stat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _is_file_with_content(path: str) -> bool:
    found = os.stat(path)
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _virtualization(word: str) -> bool:
    """A node is a container, whatever the machine below it is."""
    return word.lower() in ("yes", "true", "1", "on", "container", "lxc", "systemd-nspawn")


def _kernel_version(words: str) -> bool:
    return all(_version(word) for word in _joined(words))


def _joined(words: str) -> list[str]:
    """`>= 5.4` as one word."""
    return _COMPARISON.sub(lambda found: f" {found[1]}", words).split()


def _version(word: str) -> bool:
    release = platform.release()
    found = _COMPARISON.match(word)
    if found is None:
        return fnmatch.fnmatchcase(release, word)
    return _compare(_parts(release), found[1], _parts(word[found.end() :]))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0]))


def _compare(one: object, operator: str, other: object) -> bool:
    results: dict[str, Callable[[], bool]] = {
        "<": lambda: one < other,  # type: ignore[operator]  # both are of one kind
        "<=": lambda: one <= other,  # type: ignore[operator]  # both are of one kind
        "=": lambda: one == other,
        "!=": lambda: one != other,
        ">=": lambda: one >= other,  # type: ignore[operator]  # both are of one kind
        ">": lambda: one > other,  # type: ignore[operator]  # both are of one kind
    }
    return results[operator]()


def _amount(have: int, word: str) -> bool:
    found = _COMPARISON.match(word)
    operator, rest = (found[1], word[found.end() :]) if found else (">=", word)
    number = re.fullmatch(r"(\d+)([KMGT]?)", rest.strip())
    if number is None:
        raise ValueError(word)
    return _compare(have, operator, int(number[1]) * _SIZES[number[2]])


def _memory(word: str) -> bool:
    return _amount(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), word)


def _capability(word: str) -> bool:
    return bool(bounding_set() & mask_of((word.upper().removeprefix("CAP_"),)))


def _kernel_command_line(word: str) -> bool:
    with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
        given = file.read().split()
    return any(each == word or each.partition("=")[0] == word for each in given)


def _environment(word: str) -> bool:
    name, equals, value = word.partition("=")
    return os.environ.get(name) == value if equals else name in os.environ


def _os_release(words: str) -> bool:
    values: dict[str, str] = {}
    for path in reversed(OS_RELEASE):
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = (line.strip().partition("=") for line in file if "=" in line)
                values |= {name: value.strip("\"'") for name, _, value in pairs}
    for word in words.split():
        name, equals, value = word.partition("=")
        if not equals or values.get(name) != value:
            return False
    return True


def _user(word: str) -> bool:
    uid = os.geteuid()
    if word == "@system":
        return uid < 1000
    return word == str(uid) or (word == "root" and uid == 0)


def _is_yes(word: str) -> bool:
    return word.lower() in ("yes", "true", "1", "on")


_TESTS: Final[dict[str, Callable[[str], bool]]] = {
    "PathExists": os.path.exists,
    "PathExistsGlob": lambda word: bool(glob.glob(word)),
    "PathIsDirectory": os.path.isdir,
    "PathIsSymbolicLink": os.path.islink,
    "PathIsMountPoint": os.path.ismount,
    "PathIsReadWrite": _is_read_write,
    "PathIsSocket": _is_mode(stat.S_ISSOCK),
    "DirectoryNotEmpty": lambda word: bool(os.listdir(word)),
    "FileNotEmpty": _is_file_with_content,
    "FileIsExecutable": _is_executable,
    "Host": lambda word: fnmatch.fnmatchcase(platform.node().lower(), word.lower()),
    "Virtualization": _virtualization,
    "KernelVersion": _kernel_version,
    "Version": _kernel_version,
    "Architecture": lambda word: word in ("native", _ARCHITECTURES.get(platform.machine())),
    "Group": lambda word: word == str(os.getegid()) or (word == "root" and os.getegid() == 0),
    "KernelCommandLine": _kernel_command_line,
    "Capability": _capability,
    # A node has no battery, no first boot, and nothing in it waits for an update.
    "ACPower": _is_yes,
    "FirstBoot": lambda word: not _is_yes(word),
    "NeedsUpdate": lambda word: False,
    "PathIsEncrypted": lambda word: False,
    "Security": lambda word: False,
    "Credential": lambda word: False,
    "Environment": _environment,
    "User": _user,
    "CPUs": lambda word: _amount(os.cpu_count() or 1, word),
    "Memory": _memory,
    "OSRelease": _os_release,
}

"""As whom, where and with what the processes of a unit run (systemd.exec(5)), as a job's fields."""

from __future__ import annotations

from functools import partial
from typing import Any

from hostlab.spec.job import Console, Directory, EnvironmentFile, ResourceLimit
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.stanzas import RESOURCES
from hostlab.spec.systemd.environment import assignments
from hostlab.spec.systemd.syntax import Entry
from hostlab.spec.systemd.unit import Reader
from hostlab.spec.systemd.unit_names import UnitType
from hostlab.spec.systemd.values import integer, limit, mode

LIMITS = {
    "LimitAS": "as", "LimitCORE": "core", "LimitCPU": "cpu", "LimitDATA": "data",
    "LimitFSIZE": "fsize", "LimitLOCKS": "locks", "LimitMEMLOCK": "memlock",
    "LimitMSGQUEUE": "msgqueue", "LimitNICE": "nice", "LimitNOFILE": "nofile",
    "LimitNPROC": "nproc", "LimitRSS": "rss", "LimitRTPRIO": "rtprio", "LimitRTTIME": "rttime",
    "LimitSIGPENDING": "sigpending", "LimitSTACK": "stack",
}  # fmt: skip
_DIRECTORIES = {
    "RuntimeDirectory": "runtime",
    "StateDirectory": "state",
    "CacheDirectory": "cache",
    "LogsDirectory": "logs",
    "ConfigurationDirectory": "configuration",
}
_TO_LOG = ("journal", "syslog", "kmsg", "journal+console", "syslog+console", "kmsg+console")
SECTION = {
    UnitType.SERVICE: "Service",
    UnitType.SOCKET: "Socket",
    UnitType.TIMER: "Timer",
    UnitType.PATH: "Path",
    UnitType.TARGET: "Target",
    UnitType.SLICE: "Slice",
}
"""The section that a type of unit has of its own."""


def execution_of(reader: Reader) -> dict[str, Any]:
    """The fields of a job that say how its processes are set up, the sandbox apart."""
    found: dict[str, Any] = {}
    section = SECTION[reader.unit.name.type]
    _identity(reader, section, found)
    _place(reader, section, found)
    _priorities(reader, section, found)
    found["directories"], of_directories = _directories(reader, section)
    _environment(reader, section, found, of_directories)
    console = _console(reader, section)
    if console is not Console.LOG:
        found["console"] = console
    return found


def _identity(reader: Reader, section: str, found: dict[str, Any]) -> None:
    found["user"] = reader.text(section, "User")
    found["group"] = reader.text(section, "Group")
    found["groups"] = reader.words(section, "SupplementaryGroups")
    found["umask"] = reader.value(section, "UMask", mode, None)
    dynamic = reader.last(section, "DynamicUser")
    if dynamic is not None and reader.flag(section, "DynamicUser"):
        name = found["user"] or reader.unit.name.prefix
        found["user"] = "nobody" if found["user"] is None else found["user"]
        reader.note(dynamic, f"the user {quoted(name)} is not made up; it runs as {found['user']}")


def _place(reader: Reader, section: str, found: dict[str, Any]) -> None:
    entry = reader.last(section, "WorkingDirectory")
    if entry is not None:
        path = entry.value.removeprefix("-")
        try:
            path = reader.machine.home if path == "~" else reader.specify(path)
            if not path.startswith("/"):
                raise Wrong(f"{quoted(path)} is no absolute path")
            found["directory"] = f"-{path}" if entry.value.startswith("-") else path
        except Wrong as wrong:
            reader.wrong(entry, wrong)
        if entry.value == "~" and found.get("user") not in (None, "root"):
            reader.note(entry, f"`~` is taken as {path}, not the home of {found['user']}")
    root = reader.text(section, "RootDirectory")
    if root not in (None, "/"):
        found["chroot"] = root


def _priorities(reader: Reader, section: str, found: dict[str, Any]) -> None:
    found["nice"] = reader.value(section, "Nice", partial(_between, -20, 19), None)
    found["oom_score_adj"] = reader.value(
        section, "OOMScoreAdjust", partial(_between, -1000, 1000), None
    )
    limits = []
    for key, resource in LIMITS.items():
        pair = reader.value(section, key, partial(limit, resource), None)
        if pair is not None and resource in RESOURCES:
            limits.append(ResourceLimit(resource=resource, soft=pair[0], hard=pair[1]))
    found["limits"] = tuple(limits)
    profile = reader.text(section, "AppArmorProfile")
    if profile is not None:
        found["apparmor_switch"] = profile.removeprefix("-")


def _between(low: int, high: int, word: str) -> int:
    return integer(word, low, high)


def _environment(
    reader: Reader, section: str, found: dict[str, Any], further: dict[str, str]
) -> None:
    """Variables that are said, those of the user and of the directories, and files of them."""
    variables: dict[str, str] = {}
    if found["user"]:
        variables |= {"USER": found["user"], "LOGNAME": found["user"]}
    variables |= further
    for entry in reader.entries(section, "Environment"):
        try:
            for name, value in assignments(entry.value):
                variables[name] = reader.specify(value)
        except Wrong as wrong:
            reader.wrong(entry, wrong)
    unset = reader.words(section, "UnsetEnvironment")
    for word in unset:
        name, equals, value = word.partition("=")
        if not equals or variables.get(name) == value:
            variables.pop(name, None)
    found["environment"] = tuple(variables.items())
    passed = reader.words(section, "PassEnvironment")
    found["inherit"] = tuple(name for name in dict.fromkeys(passed) if name not in variables)
    files = []
    for entry in reader.entries(section, "EnvironmentFile"):
        try:
            path = reader.specify(entry.value.removeprefix("-"))
            if not path.startswith("/"):
                raise Wrong(f"{quoted(path)} is no absolute path")
            files.append(EnvironmentFile(path=path, optional=entry.value.startswith("-")))
        except Wrong as wrong:
            reader.wrong(entry, wrong)
    found["environment_files"] = tuple(files)


def _directories(reader: Reader, section: str) -> tuple[tuple[Directory, ...], dict[str, str]]:
    """`RuntimeDirectory=` and its siblings, and the variables that tell their paths."""
    found: list[Directory] = []
    variables: dict[str, str] = {}
    for key, field in _DIRECTORIES.items():
        base: str = getattr(reader.machine, field)
        bits = reader.value(section, f"{key}Mode", mode, 0o755)
        kept = field != "runtime" or _is_preserved(reader, section)
        paths = []
        for entry, words in reader.each(section, (key,), str.split):
            for word in words:
                path = _below(reader, entry, base, word)
                if path is not None:
                    paths.append(path)
        found += (Directory(path=path, mode=bits, kept=kept) for path in paths)
        if paths:
            name = "LOGS" if field == "logs" else field.upper()
            variables[f"{name}_DIRECTORY"] = ":".join(paths)
    return tuple(found), variables


def _is_preserved(reader: Reader, section: str) -> bool:
    word = reader.raw(section, "RuntimeDirectoryPreserve")
    return word == "restart" or word.lower() in ("yes", "true", "on", "1")


def _below(reader: Reader, entry: Entry, base: str, word: str) -> str | None:
    """A relative path below a base directory; what leads out of it is wrong."""
    try:
        text = reader.specify(word.partition(":")[0])
    except Wrong as wrong:
        reader.wrong(entry, wrong)
        return None
    parts = text.strip("/").split("/")
    if text.startswith("/") or ".." in parts or not text:
        reader.wrong(entry, Wrong(f"{quoted(text)} is no path below {base}"))
        return None
    if ":" in word:
        reader.note(entry, f"the link {quoted(word.partition(':')[2])} is not made")
    return f"{base}/{'/'.join(parts)}"


def _console(reader: Reader, section: str) -> Console:
    """Where the output goes; a file of its own and a socket are the job's log here."""
    entry = reader.last(section, "StandardOutput")
    word = entry.value if entry else "journal"
    if word == "inherit":
        word = reader.raw(section, "StandardInput") or "null"
    match word:
        case "null":
            other = reader.raw(section, "StandardError") or "inherit"
            return Console.NONE if other in ("null", "inherit") else Console.LOG
        case "tty":
            is_input = reader.raw(section, "StandardInput").startswith("tty")
            return Console.OWNER if is_input else Console.OUTPUT
        case "journal+console" | "syslog+console" | "kmsg+console":
            return Console.LOG
        case _:
            if entry is not None and word not in _TO_LOG:
                reader.note(entry, f"{quoted(word)} goes to the job's log")
            return Console.LOG

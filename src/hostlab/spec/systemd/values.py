"""Single values of units: booleans, times, sizes, percentages, signals, limits, ends.

Each function takes the text and returns the value, or raises `Wrong`; systemd's own grammars
(systemd.syntax(7), systemd.time(7), "PARSING TIME SPANS"), which are not those of `spec/units.py`.
"""

from __future__ import annotations

import re

from hostlab.spec.job import UNLIMITED
from hostlab.spec.signals import signal_number
from hostlab.spec.source import Wrong, quoted

FOREVER_S = 10 * 365.25 * 86400
"""What `infinity` is where a number of seconds is needed; JSON has no infinity."""
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
_FALSE = frozenset({"0", "no", "n", "false", "f", "off"})
_UNITS = {
    "usec": 1e-6, "us": 1e-6, "μs": 1e-6, "µs": 1e-6,
    "msec": 1e-3, "ms": 1e-3,
    "seconds": 1.0, "second": 1.0, "sec": 1.0, "s": 1.0,
    "minutes": 60.0, "minute": 60.0, "min": 60.0, "m": 60.0,
    "hours": 3600.0, "hour": 3600.0, "hr": 3600.0, "h": 3600.0,
    "days": 86400.0, "day": 86400.0, "d": 86400.0,
    "weeks": 604800.0, "week": 604800.0, "w": 604800.0,
    "months": 2629800.0, "month": 2629800.0, "M": 2629800.0,
    "years": 31557600.0, "year": 31557600.0, "y": 31557600.0,
}  # fmt: skip
_SPAN = re.compile(
    r"\s*(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?|\.[0-9]{1,18})\s*(?P<unit>[^\W\d_]*)"
)
_SIZE = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(?P<unit>[KMGTPE]?)B?")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_PERCENT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,2})?)%")
_EXIT_NAMES = {
    "SUCCESS": 0, "FAILURE": 1, "INVALIDARGUMENT": 2, "NOTIMPLEMENTED": 3, "NOPERMISSION": 4,
    "NOTINSTALLED": 5, "NOTCONFIGURED": 6, "NOTRUNNING": 7, "USAGE": 64, "DATAERR": 65,
    "NOINPUT": 66, "NOUSER": 67, "NOHOST": 68, "UNAVAILABLE": 69, "SOFTWARE": 70, "OSERR": 71,
    "OSFILE": 72, "CANTCREAT": 73, "IOERR": 74, "TEMPFAIL": 75, "PROTOCOL": 76, "NOPERM": 77,
    "CONFIG": 78,
    "CHDIR": 200, "NICE": 201, "FDS": 202, "EXEC": 203, "MEMORY": 204, "LIMITS": 205,
    "OOM_ADJUST": 206, "SIGNAL_MASK": 207, "STDIN": 208, "STDOUT": 209, "CHROOT": 210,
    "IOPRIO": 211, "TIMERSLACK": 212, "SECUREBITS": 213, "SETSCHEDULER": 214, "CPUAFFINITY": 215,
    "GROUP": 216, "USER": 217, "CAPABILITIES": 218, "CGROUP": 219, "SETSID": 220, "CONFIRM": 221,
    "STDERR": 222, "PAM": 224, "NETWORK": 225, "NAMESPACE": 226, "NO_NEW_PRIVILEGES": 227,
    "SECCOMP": 228, "SELINUX_CONTEXT": 229, "PERSONALITY": 230, "APPARMOR": 231,
    "ADDRESS_FAMILIES": 232, "RUNTIME_DIRECTORY": 233, "CHOWN": 235, "SMACK_PROCESS_LABEL": 236,
    "KEYRING": 237, "STATE_DIRECTORY": 238, "CACHE_DIRECTORY": 239, "LOGS_DIRECTORY": 240,
    "CONFIGURATION_DIRECTORY": 241, "NUMA_POLICY": 242, "CREDENTIALS": 243, "BPF": 245,
}  # fmt: skip


def boolean(word: str) -> bool:
    """yes, true, on, 1 and their opposites, in any case."""
    low = word.lower()
    if low in _TRUE:
        return True
    if low in _FALSE:
        return False
    raise Wrong(f"{quoted(word)} is neither yes nor no")


def is_boolean(word: str) -> bool:
    """Whether it is one of the words for yes and no."""
    return word.lower() in _TRUE | _FALSE


def seconds(word: str, *, unit_s: float = 1.0) -> float | None:
    """A time span in seconds, `5min 20s`; None is `infinity`. A bare number counts `unit_s`."""
    text = word.strip()
    if text == "infinity":
        return None
    total = 0.0
    position = 0
    while position < len(text):
        found = _SPAN.match(text, position)
        scale = _UNITS.get(found["unit"], unit_s if not found["unit"] else None) if found else None
        if found is None or scale is None:
            raise Wrong(f"{quoted(word)} is no time span", "as `30`, `5min 20s` or `infinity`")
        total += float(found["number"]) * scale
        position = found.end()
    if not text:
        raise Wrong("a time span is missing")
    return total


def size(word: str) -> int | None:
    """Bytes, `64M` by powers of 1024; None is `infinity`."""
    if word == "infinity":
        return None
    found = _SIZE.fullmatch(word)
    if not found:
        raise Wrong(f"{quoted(word)} is no size", "as `64M`, `1G` or `infinity`")
    return int(float(found["number"]) * 1024 ** _POWERS[found["unit"]])


def percent(word: str) -> float | None:
    """A share, 0.5 for `50%`; None when it is no percentage."""
    found = _PERCENT.fullmatch(word)
    return float(found[1]) / 100 if found else None


def integer(word: str, low: int, high: int) -> int:
    """A whole number in a range."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", word):
        raise Wrong(f"{quoted(word)} is no whole number")
    if not low <= int(word) <= high:
        raise Wrong(f"{word} is not between {low} and {high}")
    return int(word)


def mode(word: str) -> int:
    """Permission bits, octal."""
    if not re.fullmatch(r"[0-7]{1,5}", word) or int(word, 8) > 0o7777:
        raise Wrong(f"{quoted(word)} is no file mode", "octal digits, as 0755")
    return int(word, 8)


def signal(word: str) -> int:
    """A signal, by name with or without SIG, by number, or `RTMIN+3`."""
    number = signal_number(word)
    found = re.fullmatch(r"(?:SIG)?RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?", word)
    if number is None and found:
        # As glibc has them: it keeps the first two for itself.
        offset = int(f"{found[2] or '+'}{found[3] or '0'}")
        number = (34 if found[1] == "MIN" else 64) + offset
    if number is None and re.fullmatch("[0-9]{1,2}", word):
        number = int(word)
    if number is None or not 1 <= number <= 64:
        raise Wrong(f"{quoted(word)} is no signal")
    return number


def end(word: str) -> int:
    """An exit status by number or name, or a signal's name as number << 8."""
    if re.fullmatch("[0-9]{1,3}", word) and int(word) <= 255:
        return int(word)
    named = _EXIT_NAMES.get(word.removeprefix("EX_"))
    if named is not None:
        return named
    try:
        return signal(word) << 8
    except Wrong:
        raise Wrong(f"{quoted(word)} is neither an exit status nor a signal") from None


def limit(resource: str, word: str) -> tuple[int, int]:
    """Soft and hard of a `LimitX=`, whose numbers are what setrlimit(2) takes."""
    soft_text, colon, hard_text = word.partition(":")
    soft = _bound(resource, soft_text)
    hard = _bound(resource, hard_text) if colon else soft
    if hard != UNLIMITED and (soft == UNLIMITED or soft > hard):
        raise Wrong("the soft limit is above the hard one")
    return soft, hard


def _bound(resource: str, word: str) -> int:
    if word == "infinity":
        return UNLIMITED
    match resource:
        case "cpu":
            span = seconds(word)
            return UNLIMITED if span is None else int(span)
        case "rttime":
            span = seconds(word, unit_s=1e-6)
            return UNLIMITED if span is None else int(span * 1e6)
        case "nice" if word[:1] in "+-" and word:
            # The kernel counts it upwards from 1 to 40 (getrlimit(2)).
            return 20 - integer(word, -20, 19)
        case "fsize" | "data" | "stack" | "core" | "rss" | "as" | "memlock" | "msgqueue":
            found = size(word)
            return UNLIMITED if found is None else found
        case _:
            return integer(word, 0, 2**63 - 1)

"""`Restart=` and what goes with it, as a job's respawn.

A job is started again when its main process has failed; an end that is in `normal_exit` is no
failure, and one in `respawn.never_on` is a failure that starts nothing. So each kind of `Restart=`
is the set of ends that do not start it again (systemd.service(5), table of "Restart="):

    no            –                          always        none
    on-success    unclean ends               on-failure    clean ends
    on-abnormal   every exit status, clean signals
    on-abort      the same                   on-watchdog   everything but SIGABRT

Clean are status 0, SIGHUP, SIGINT, SIGTERM, SIGPIPE (not for a oneshot) and SuccessExitStatus=.
"""

from __future__ import annotations

from hostlab.spec.job import Respawn
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.syntax import Entry
from hostlab.spec.systemd.unit import Reader
from hostlab.spec.systemd.values import FOREVER_S, end, integer, seconds

DEFAULT_DELAY_S = 0.1
DEFAULT_INTERVAL_S = 10.0
DEFAULT_BURST = 5
_SECTION = "Service"
_CLEAN_SIGNALS = (1 << 8, 2 << 8, 13 << 8, 15 << 8)
_STATUSES = range(256)
_SIGNALS = tuple(number << 8 for number in range(1, 65))
_SIGABRT = 6 << 8
KINDS = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")


def respawn_of(reader: Reader) -> Respawn:
    """Whether and how a service is started again."""
    kind = reader.value(_SECTION, "Restart", _kind, "no")
    delay_s: float | None = DEFAULT_DELAY_S
    for _, span in reader.each(_SECTION, ("RestartSec",), seconds):
        delay_s = span
    longest_s = reader.value(_SECTION, "RestartMaxDelaySec", seconds, None)
    delay_s = FOREVER_S if delay_s is None else delay_s
    limit, interval_s, allowed = _limit(reader)
    if kind == "no" or not allowed:
        return Respawn()
    clean = set(_clean(reader))
    unclean = {*_STATUSES, *_SIGNALS} - clean
    never: set[int] = set()
    match kind:
        case "on-success":
            never = unclean
        case "on-abnormal" | "on-abort":
            never = set(_STATUSES) - clean
        case "on-watchdog":
            never = unclean - {_SIGABRT}
        case _:
            pass
    never |= _ends(reader, "RestartPreventExitStatus")
    never -= _ends(reader, "RestartForceExitStatus")
    return Respawn(
        enabled=True,
        limit=limit,
        interval_s=interval_s,
        delay_min_s=delay_s,
        delay_max_s=max(delay_s, longest_s or 0.0),
        never_on=tuple(sorted(never)),
    )


def normal_ends(reader: Reader, *, oneshot: bool) -> tuple[int, ...]:
    """The ends that are no failure and start nothing again.

    With `Restart=always` and `on-success` a clean end starts it again, so none is normal there
    but those that RestartPreventExitStatus= names.
    """
    kind = reader.value(_SECTION, "Restart", _kind, "no")
    if kind in ("always", "on-success"):
        prevented = _ends(reader, "RestartPreventExitStatus")
        return tuple(sorted(prevented.intersection(_clean(reader))))
    said = _ends(reader, "SuccessExitStatus")
    signals = () if oneshot else _CLEAN_SIGNALS
    forced = _ends(reader, "RestartForceExitStatus")
    return tuple(sorted({0, *signals, *said} - forced))


def _clean(reader: Reader) -> tuple[int, ...]:
    return (0, *_CLEAN_SIGNALS, *_ends(reader, "SuccessExitStatus"))


def _kind(word: str) -> str:
    if word not in KINDS:
        raise Wrong(f"{quoted(word)} is no kind of restart", f"one of {', '.join(KINDS)}")
    return word


def _ends(reader: Reader, key: str) -> set[int]:
    found: set[int] = set()
    for entry in reader.entries(_SECTION, key):
        for word in entry.value.split():
            try:
                found.add(end(word))
            except Wrong as wrong:
                reader.wrong(entry, wrong)
    return found


def _limit(reader: Reader) -> tuple[int, float, bool]:
    """Respawns within an interval, and whether there may be any.

    systemd counts starts, the first one too; a job counts what follows it.
    """
    interval_entry = _either(reader, "StartLimitIntervalSec", "StartLimitInterval")
    interval_s: float | None = DEFAULT_INTERVAL_S
    if interval_entry is not None:
        try:
            interval_s = seconds(interval_entry.value)
        except Wrong as wrong:
            reader.wrong(interval_entry, wrong)
    burst = DEFAULT_BURST
    burst_entry = _either(reader, "StartLimitBurst")
    if burst_entry is not None:
        try:
            burst = integer(burst_entry.value, 0, 2**31 - 1)
        except Wrong as wrong:
            reader.wrong(burst_entry, wrong)
    if interval_s == 0 or burst == 0:
        return 0, 0.0, True
    return burst - 1, FOREVER_S if interval_s is None else interval_s, burst > 1


def _either(reader: Reader, *keys: str) -> Entry | None:
    """A key of `[Unit]`, or of `[Service]` where it was before systemd 230."""
    for section in ("Unit", _SECTION):
        for key in keys:
            entry = reader.last(section, key)
            if entry is not None:
                return entry
    return None

"""timerfd_create(2): a descriptor that can be read when a time has come."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from hostlab.linux.libc import HANDLE, oserror

CLOCK_REALTIME: Final = 0
CLOCK_BOOTTIME: Final = 7
"""Goes on evenly, also while the machine sleeps."""
TFD_NONBLOCK: Final = os.O_NONBLOCK
TFD_CLOEXEC: Final = os.O_CLOEXEC
TFD_TIMER_ABSTIME: Final = 1
TFD_TIMER_CANCEL_ON_SET: Final = 2
_NANOSECONDS: Final = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


_create = HANDLE.timerfd_create
_create.argtypes, _create.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
_settime = HANDLE.timerfd_settime
_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Itimerspec), ctypes.c_void_p)
_settime.restype = ctypes.c_int


class TimerFd:
    """One timer of one clock; not blocking."""

    def __init__(self, clock: int) -> None:
        self.clock = clock
        self.fd = _create(clock, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.fd < 0:
            raise oserror("timerfd_create")

    def fileno(self) -> int:
        """For whoever waits for it with others."""
        return int(self.fd)

    def set(self, at: float | None) -> None:
        """Expire at a time of the clock, in seconds; at once when it is past; None disarms.

        Of CLOCK_REALTIME it also becomes readable when somebody sets that clock
        (TFD_TIMER_CANCEL_ON_SET; `read` says so), once, and must then be set again.
        """
        self.set_ns(None if at is None else int(at * _NANOSECONDS))

    def set_ns(self, at_ns: int | None) -> None:
        """As `set`, with the time in nanoseconds."""
        spec = _Itimerspec()
        if at_ns is not None:
            # A value of zero would disarm it.
            total = max(1, at_ns)
            spec.it_value.tv_sec, spec.it_value.tv_nsec = divmod(total, _NANOSECONDS)
        flags = TFD_TIMER_ABSTIME
        if self.clock == CLOCK_REALTIME:
            flags |= TFD_TIMER_CANCEL_ON_SET
        if _settime(self.fd, flags, ctypes.byref(spec), None) < 0:
            # The clock was set since it was last armed: it is armed all the same (timerfd.c).
            if ctypes.get_errno() == errno.ECANCELED:
                return
            raise oserror("timerfd_settime")

    def read(self) -> bool:
        """Take the expiry; False when the clock was set instead. True also when neither is so."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.ECANCELED:
                return False
            raise
        return True

    def close(self) -> None:
        """Disarm and close."""
        os.close(self.fd)

"""What the commands of Upstart ask of the init that they are given to, and what they answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from hostlab.jobs.effects import Reply
from hostlab.jobs.engine import Engine
from hostlab.jobs.expression import Environment
from hostlab.jobs.journal import AnyFact


class Down(StrEnum):
    """Ways of going down."""

    HALT = "halt"
    POWEROFF = "poweroff"
    REBOOT = "reboot"


class LogPriority(StrEnum):
    """What init logs at least (`initctl log-priority`), the most talkative first."""

    DEBUG = "debug"
    INFO = "info"
    MESSAGE = "message"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"


class Command(msgspec.Struct, frozen=True):
    """A program of Upstart that was called."""

    program: str
    """Its name without a directory: `initctl`, `start`, `telinit`."""
    arguments: tuple[str, ...]
    token: str
    """Names this call, for a supervisor that comes after this one too."""
    asked_at: float
    """When, in seconds of the wall clock; a delay counts from here."""
    environment: Mapping[str, str]
    """What of the caller's environment matters: UPSTART_JOB, UPSTART_INSTANCE, RUNLEVEL, …"""


Feed = Callable[[str], Awaitable[bool]]
"""Print lines for a client; False when it has gone."""


class Answer(msgspec.Struct, frozen=True):
    """What a call prints and its exit status."""

    status: int = 0
    out: str = ""
    err: str = ""
    more: Callable[[Feed], Awaitable[None]] | None = None
    """What it prints from then on, as long as it is fed to somebody who is there."""


class Init(Protocol):
    """The init that serves the commands.

    None of its methods but `request` waits; what takes time it does afterwards.
    """

    @property
    def engine(self) -> Engine:
        """The jobs."""

    @property
    def runlevel(self) -> tuple[str, str] | None:
        """The runlevel before and now, `N` for none; None before the first one."""

    @property
    def default_environment(self) -> Mapping[str, str]:
        """What every job got before anybody changed it (`reset-env`)."""

    log_priority: LogPriority

    def tell(self, fact: AnyFact) -> None:
        """Tell the engine; UsageError when it refuses."""

    async def request(self, token: str, fact: AnyFact, *, wait: bool) -> Reply:
        """Tell the engine a fact that carries this token, and wait for its answer.

        Without `wait` the answer is that it was told. Of a token that the engine took already,
        perhaps from a supervisor that is dead, the fact is not told again. UsageError when the
        engine refuses. See `initctl_requests`.
        """

    def knows(self, token: str) -> bool:
        """Whether the engine took a request with this token."""

    def forget(self, token: str) -> None:
        """The caller has its answer, or is gone."""

    def forget_others(self, prefix: str, tokens: frozenset[str]) -> None:
        """No caller is left of the tokens with this prefix but these."""

    def notify_bus_address(self, address: str) -> None:
        """A session is told where its bus is; UsageError where init is no session's."""

    def reload_configuration(self) -> None:
        """Read the job files again."""

    def reexec(self) -> None:
        """Replace the supervisor (`telinit u`)."""

    def change_runlevel(self, level: str, environment: Environment, *, token: str) -> None:
        """Emit `runlevel`, this environment behind RUNLEVEL and PREVLEVEL, and stay up.

        Not again when it knows the token, and not waited for.
        """

    def go_down(self, down: Down, environment: Environment, *, force: bool, token: str) -> None:
        """Emit what is emitted on the way down, and go; with `force` go without.

        Not again when it knows the token, and not waited for.
        """

    def broadcast(self, text: str) -> None:
        """Tell everybody who is logged in."""

    def sessions(self) -> Sequence[tuple[int, str]]:
        """Users' sessions: the pid of each one's init and its UPSTART_SESSION."""

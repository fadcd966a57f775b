"""What can be expected of a node: a kind of check a class (see `kind.py`), and the table of them.

A new kind is one class and one entry in `KINDS`.
"""

from __future__ import annotations

import http.client
import math
import os
import stat
import time
from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from hostlab import typed
from hostlab.checks import file_state
from hostlab.checks.access import (
    CommandResult,
    NodeAccess,
    TooMuch,
    exit_text,
    status_text,
)
from hostlab.checks.bgp import BgpPaths
from hostlab.checks.host_kinds import GroupIs, MountIs, PackageIs, ProcessIs, ServiceIs, UserIs
from hostlab.checks.kind import (
    OUTPUT_BYTES,
    Asked,
    Expectation,
    InsideExpectation,
    Options,
    OutsideExpectation,
    Texts,
    content_differs,
    hostlab_line,
    last_lines,
    options,
    texts,
    unanswered,
)
from hostlab.checks.mail import Smtp
from hostlab.checks.naming import Dns
from hostlab.checks.network import Ntp, Ping, Ssh, Tcp, Tls, Udp, UnixSocket
from hostlab.checks.network_kinds import AddressIs, InterfaceIs, RouteIs
from hostlab.checks.patience import OUTPUT_LINES, Seen
from hostlab.checks.routed import BgpSession, Ospf
from hostlab.errors import DecodeError, SpecError, Unsupported, in_a_line
from hostlab.jobs.job_state import JobState
from hostlab.linux.sockdiag import Listener, listeners
from hostlab.probes import reach, web
from hostlab.probes.names import UnknownName, addresses

if TYPE_CHECKING:
    from hostlab.spec.model import Check

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
ADDRESSES: Final = 8
"""As many addresses of one name are tried."""
NOT_READ: Final = "it is no regular file, so it is not read"


class Transport(StrEnum):
    """What carries the question to another host."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Listens(InsideExpectation, frozen=True, kw_only=True):
    """A socket of the node waits on the port."""

    kind = "listens"

    port: Port
    protocol: Literal["tcp", "udp"] = "tcp"
    address: str | None = None
    """The socket must take what is sent to this address; None: to any."""

    def text(self) -> str:
        host = f"{self.address}:" if self.address else ""
        return f"{host}{self.port}" + ("" if self.protocol == "tcp" else f"/{self.protocol}")

    def expected(self) -> str:
        where = f" at {self.address}" if self.address else ""
        return f"a {self.protocol} socket listening on port {self.port}{where}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("ss", "-ln" + self.protocol[0], f"sport = :{self.port}")

    def asked(self) -> tuple[Asked, ...]:
        return (Asked(None, self.port, self.protocol),)

    def _fits(self, listener: Listener) -> bool:
        if listener.port != self.port:
            return False
        return self.address is None or listener.takes(ip_address(self.address))

    def attempt(self, timeout_s: float) -> Seen:
        every = listeners(self.protocol)
        if found := [listener for listener in every if self._fits(listener)]:
            return Seen(ok=True, text=f"listening on {_joined(found)}")
        if elsewhere := [listener for listener in every if listener.port == self.port]:
            return Seen(ok=False, text=f"only {_joined(elsewhere)} listens on that port")
        others = sorted({listener.port for listener in every})[:ADDRESSES]
        also = f"; {self.protocol} ports that are: {', '.join(map(str, others))}" if others else ""
        return Seen(ok=False, text=f"nothing listens on {self.protocol} port {self.port}{also}")


class Http(InsideExpectation, frozen=True, kw_only=True):
    """A GET from the node is answered as said."""

    kind = "http"
    attempt_s = math.inf

    url: str
    status: int = 200
    body: str | None = None
    """A text that the first MiB of the body contains."""
    verify: bool = True
    """The certificate must be good for the name, by the node's authorities."""
    follow: bool = False
    """Follow redirects."""
    location: str | None = None
    """Where it redirects to."""
    days: float = 0.0
    """For how long its certificate has to be good yet."""
    method: str = "GET"
    headers: Mapping[str, str] = {}
    authorities: str | None = None
    resolve: Mapping[str, str] = {}

    def text(self) -> str:
        return self.url

    def expected(self) -> str:
        body = f" and a body that contains {self.body!r}" if self.body is not None else ""
        to = f" to {self.location}" if self.location is not None else ""
        days = f", its certificate good for {self.days:g} days yet" if self.days else ""
        return f"status {self.status}{to}{body} from {self.url}{days}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        is_head = self.method == "HEAD"  # of which curl must not wait for a body
        flags = "-sSi" + ("L" if self.follow else "") + ("" if self.verify else "k")
        said: Options = {
            "--max-time": f"{max(1, within_s):g}",
            "--head": is_head,
            "--request": None if is_head or self.method == "GET" else self.method,
            "--header": tuple(f"{name}: {value}" for name, value in self.headers.items()),
            "--cacert": self.authorities,
            "--resolve": tuple(self._resolved()),
        }
        return ("curl", flags, *options(said), self.url)

    def _resolved(self) -> Iterator[str]:
        """Names and their addresses as curl wants them, with a port."""
        for name, address in self.resolve.items():
            ports = () if ":" in name else tuple(f":{each.port}" for each in self.asked())
            yield f"{name}{''.join(ports)}:{address}"

    def asked(self) -> tuple[Asked, ...]:
        try:
            host, port = web.server_of(self.url, self.resolve)
        except (http.client.InvalidURL, ValueError):
            return ()
        return (Asked(host, port),)

    def attempt(self, timeout_s: float) -> Seen:
        request = web.Request(
            method=self.method,
            headers=self.headers,
            verify=self.verify,
            authorities=self.authorities,
            follow=self.follow,
            resolve=self.resolve,
        )
        try:
            page = web.ask(self.url, request, timeout_s=timeout_s)
        except http.client.InvalidURL as error:
            return Seen(ok=False, text=str(error), hopeless=True)
        except http.client.HTTPException as error:
            said = str(error).strip()  # BadStatusLine has the line with its end
            return Seen(ok=False, text=f"no HTTP answer: {type(error).__name__} {said}")
        except DecodeError as error:
            return Seen(ok=False, text=error.message)
        except (UnknownName, OSError) as error:
            return unanswered(error)
        return self._judged(page)

    def _judged(self, page: web.Page) -> Seen:
        answered = f"status {page.status} {page.reason} from {page.address}"
        facts = msgspec.to_builtins(page)
        facts["body"] = page.body[:OUTPUT_BYTES].decode(errors="replace")
        log = last_lines(page.body)
        if page.status != self.status:
            moved = f", to {page.location}" if page.location else ""
            return Seen(ok=False, text=answered + moved, log=log, facts=facts)
        if self.location not in (None, page.location):
            return Seen(ok=False, text=f"{answered}, to {page.location}", log=log, facts=facts)
        if self.body is not None and self.body.encode() not in page.body:
            return Seen(ok=False, text=f"{answered}, without that text", log=log, facts=facts)
        if page.certificate is not None:
            facts["days_left"] = days = page.certificate.days_left(time.time())
            if days < self.days:
                text = f"{answered}, and its certificate is good for {days:.1f} days"
                return Seen(ok=False, text=text, log=log, facts=facts)
        return Seen(ok=True, text=answered, log=log, facts=facts)


class _Target(InsideExpectation, frozen=True, kw_only=True):
    """Another host, and how it is asked."""

    host: str
    port: Port | None = None
    """None: an ICMP echo."""
    protocol: Transport = Transport.TCP

    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port is None or self.protocol is Transport.ICMP:
            return self.host
        return f"{host}:{self.port}" + ("/udp" if self.protocol is Transport.UDP else "")

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        wait_s = f"{max(1, round(within_s))}"
        if self.port is None or self.protocol is Transport.ICMP:
            return ("ping", "-c", "1", "-W", wait_s, self.host)
        options = "-zvu" if self.protocol is Transport.UDP else "-zv"
        return ("nc", options, "-w", wait_s, self.host, str(self.port))

    def asked(self) -> tuple[Asked, ...]:
        if self.port is None or self.protocol is Transport.ICMP:
            return ()
        return (Asked(self.host, self.port, self.protocol),)

    def _ask(self, address: str, timeout_s: float) -> reach.Answer:
        if self.port is None or self.protocol is Transport.ICMP:
            return reach.icmp(address, timeout_s=timeout_s)
        if self.protocol is Transport.UDP:
            return reach.udp(address, self.port, timeout_s=timeout_s)
        return reach.tcp(address, self.port, timeout_s=timeout_s)

    def _answers(self, timeout_s: float) -> list[reach.Answer]:
        """The answers of the name's addresses, up to the first that is reached."""
        found = addresses(self.host)[:ADDRESSES]
        answers: list[reach.Answer] = []
        for address in found:
            answers.append(self._ask(address, timeout_s / len(found)))
            if answers[-1].reach is reach.Reach.ANSWERED:
                break
        return answers


class Reaches(_Target, frozen=True, kw_only=True):
    """Some address of the host answers: TCP's handshake, a datagram, an echo."""

    kind = "reaches"

    def expected(self) -> str:
        return f"an answer from {self.text()}"

    def attempt(self, timeout_s: float) -> Seen:
        try:
            answers = self._answers(timeout_s)
        except UnknownName as error:
            return Seen(ok=False, text=str(error))
        if answers[-1].reach is reach.Reach.ANSWERED:
            return Seen(ok=True, text=str(answers[-1]))
        return Seen(ok=False, heard=_heard(answers), text=_joined(answers))


class NotReaches(_Target, frozen=True, kw_only=True):
    """No address of the host answers, for min(within, 1 s).

    What counts is that no connection comes about: *refused*, *unreachable* and *silent* all hold,
    and the verdict says which it was. A name that does not resolve is a failure, else a slip of
    the pen would hold for ever.
    """

    kind = "not_reaches"
    lasting = True

    def expected(self) -> str:
        return f"no answer from {self.text()}"

    def attempt(self, timeout_s: float) -> Seen:
        try:
            answers = self._answers(timeout_s)
        except UnknownName as error:
            return Seen(ok=False, text=str(error), hopeless=True)
        if answers[-1].reach is reach.Reach.ANSWERED:
            return Seen(ok=False, text=str(answers[-1]))
        return Seen(ok=True, heard=_heard(answers), text=_joined(answers))


class Command(OutsideExpectation, frozen=True, kw_only=True):
    """A shell command in the node ends as said."""

    kind = "command"
    attempt_s = math.inf

    run: str
    stdout: Texts = None
    """What its output contains, all of it."""
    stderr: Texts = None
    matches: Texts = None
    """Regular expressions, each found somewhere in its output; `^` and `$` are of lines."""
    lacks: Texts = None
    """What its output does not contain."""
    above: float | None = None
    """Its output is a number above this."""
    below: float | None = None
    status: int = 0

    def text(self) -> str:
        return self.run

    def expected(self) -> str:
        parts = [f"exit status {self.status}", *self._wanted()]
        *most, last = parts
        return (", ".join(most) + " and " if most else "") + f"{last} from `{self.run}`"

    def _wanted(self) -> Iterator[str]:
        for wanted in texts(self.stdout):
            yield f"{wanted!r} in its output"
        for wanted in texts(self.stderr):
            yield f"{wanted!r} in its errors"
        for wanted in texts(self.matches):
            yield f"a match of /{wanted}/ in its output"
        for wanted in texts(self.lacks):
            yield f"no {wanted!r} in its output"
        if self._is_number:
            yield f"a number{_limits(self.above, self.below)}"

    @property
    def _is_number(self) -> bool:
        return self.above is not None or self.below is not None

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("sh", "-c", self.run)

    def attempt(self, access: NodeAccess, timeout_s: float) -> Seen:
        try:
            result = access.run(self.run, timeout_s=timeout_s)
        except TooMuch as error:
            return Seen(ok=False, hopeless=True, text=str(error), log=last_lines(error.stdout))
        except TimeoutError:
            return Seen(ok=False, heard=0, text=f"still running after {timeout_s:.1f} s")
        if result.status != self.status:
            log = last_lines(result.stderr or result.stdout)
            return Seen(ok=False, text=_ended(result), log=log)
        if wrong := content_differs(
            result.stdout, texts(self.stdout), texts(self.matches), texts(self.lacks)
        ):
            return Seen(ok=False, text=f"its output {wrong}", log=last_lines(result.stdout))
        if wrong := content_differs(result.stderr, texts(self.stderr)):
            return Seen(ok=False, text=f"its errors: it {wrong}", log=last_lines(result.stderr))
        if self._is_number:
            return self._compared(result.stdout)
        return Seen(ok=True, text=_ended(result))

    def _compared(self, output: bytes) -> Seen:
        try:
            number = float(output)
        except ValueError:
            return Seen(ok=False, text="its output is no number", log=last_lines(output))
        above = self.above is None or number > self.above
        below = self.below is None or number < self.below
        return Seen(ok=above and below, text=f"it is {number:.15g}")


class FileIs(InsideExpectation, frozen=True, kw_only=True, rename={"kind_of_file": "is"}):
    """A file of the node is there, or is not, and is as said."""

    kind = "file"

    path: str
    kind_of_file: str | None = None
    mode: int | None = None
    owner: str | None = None
    """`USER`, `USER:GROUP` or `:GROUP`."""
    contains: Texts = None
    """What its first MiB contains, all of it."""
    matches: Texts = None
    """Regular expressions, each found in it; `^` and `$` are of lines."""
    lacks: Texts = None
    """What it does not contain."""
    size: int | None = None
    """In bytes."""
    sha256: str | None = None
    target: str | None = None
    """What the link says."""

    def text(self) -> str:
        does = (f"{_third(verb)} {what}" for verb, what in self._to_do())
        wanted = ", ".join((*self._to_be(), *does))
        return f"{self.path} ({wanted})" if wanted else self.path

    def expected(self) -> str:
        does = [f"to {verb} {what}" for verb, what in self._to_do()]
        wanted = ", ".join(self._to_be()) or ("" if does else "there")
        return f"{self.path} " + ", ".join((*([f"to be {wanted}"] if wanted else []), *does))

    def _to_be(self) -> Iterator[str]:
        if self.kind_of_file is not None:
            yield self.kind_of_file
        if self.mode is not None:
            yield f"mode {self.mode:04o}"
        if self.owner is not None:
            yield f"owner {self.owner}"
        if self.size is not None:
            yield f"size {self.size}"
        if self.sha256 is not None:
            yield f"sha256 {self.sha256[:12]}…"

    def _to_do(self) -> Iterator[tuple[str, str]]:
        """What it is to do: a verb, and what."""
        yield from (("contain", repr(text)) for text in texts(self.contains))
        yield from (("match", f"/{text}/") for text in texts(self.matches))
        yield from (("lack", repr(text)) for text in texts(self.lacks))
        if self.target is not None:
            yield "lead", f"to {self.target}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        if self._is_read:
            return ("cat", self.path)
        return ("stat", self.path)

    def attempt(self, timeout_s: float) -> Seen:
        follow = self.target is None and self.kind_of_file not in {"link", "absent"}
        found = file_state.look(self.path, follow=follow)
        if found is None:
            return Seen(ok=self.kind_of_file == "absent", text="it is not there")
        kind = file_state.kind_of(found)
        wanted_kind = self.kind_of_file or ("link" if self.target is not None else kind)
        if kind != wanted_kind:
            return Seen(ok=False, text=f"it is a {kind}")
        mode = stat.S_IMODE(found.st_mode)
        user, group = file_state.owner_of(found)
        text = f"{kind}, mode {mode:04o}, owner {user}:{group}"
        if self.mode not in {None, mode} or not self._owned(found, user, group):
            return Seen(ok=False, text=f"it is a {text}")
        if self.target is not None and (leads := os.readlink(self.path)) != self.target:
            return Seen(ok=False, text=f"it leads to {leads}")
        if self.size not in {None, found.st_size}:
            return Seen(ok=False, text=f"it has {found.st_size} bytes")
        if self.sha256 is not None and (digest := file_state.sha256_of(self.path)) != self.sha256:
            return Seen(ok=False, text=f"its SHA-256 is {digest}" if digest else NOT_READ)
        return self._content(text) if self._is_read else Seen(ok=True, text=text)

    @property
    def _is_read(self) -> bool:
        return any(texts(each) for each in (self.contains, self.matches, self.lacks))

    def _owned(self, found: os.stat_result, user: str, group: str) -> bool:
        wanted_user, _, wanted_group = (self.owner or "").partition(":")
        return wanted_user in {"", user, str(found.st_uid)} and wanted_group in {
            "",
            group,
            str(found.st_gid),
        }

    def _content(self, text: str) -> Seen:
        content = file_state.read_regular(self.path)
        if content is None:
            return Seen(ok=False, text=NOT_READ)
        wanted = (texts(self.contains), texts(self.matches), texts(self.lacks))
        if wrong := content_differs(content, *wanted):
            return Seen(ok=False, text=f"{text}: it {wrong}", log=last_lines(content))
        return Seen(ok=True, text=text)


class SysctlIs(InsideExpectation, frozen=True, kw_only=True):
    """A kernel parameter of the node has the value said; spaces count as one."""

    kind = "sysctl"

    name: str
    value: str

    def text(self) -> str:
        return f"{self.name}: {self.value}"

    def expected(self) -> str:
        return f"{self.name} to be {self.value}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("sysctl", self.name)

    def attempt(self, timeout_s: float) -> Seen:
        # A dot in a device's name is said as a slash: `net.ipv4.conf.eth0/1.forwarding`.
        path = self.name.translate(str.maketrans("./", "/."))
        try:
            content = file_state.read_regular(f"/proc/sys/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return Seen(ok=False, text=f"this kernel has no {self.name} here", hopeless=True)
        found = (content or b"").decode(errors="replace").split()
        return Seen(ok=found == self.value.split(), text=f"it is {' '.join(found)}")


class JobIs(OutsideExpectation, frozen=True, kw_only=True):
    """A job of the node is in the state said."""

    kind = "job"

    name: str
    state: JobState

    def text(self) -> str:
        return f"{self.name}: {self.state}"

    def expected(self) -> str:
        return f"job {self.name} {self.state}"

    def repeat(self, lab: str | None, node: str, within_s: float) -> str:
        return hostlab_line("status", lab, node)

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("initctl", "status", self.name)

    def attempt(self, access: NodeAccess, timeout_s: float) -> Seen:
        jobs = access.jobs()
        found = jobs.get(self.name)
        if found is None:
            known = f"; its jobs are {', '.join(jobs)}" if jobs else ", nor any other"
            return Seen(ok=False, text=f"there is no job {self.name}{known}", hopeless=True)
        text = f"{self.name} is {status_text(found)}"
        is_idle = self.state is JobState.STOPPED and found.state is JobState.WAITING
        if found.state is self.state or is_idle:
            return Seen(ok=True, text=text)
        # A failed job has no respawn left: it becomes nothing else by itself.
        hopeless = found.state is JobState.FAILED
        return Seen(ok=False, text=text, hopeless=hopeless, log=found.log[-OUTPUT_LINES:])


KINDS: Final[Mapping[str, type[Expectation]]] = {
    kind.kind: kind
    for kind in (
        *(Listens, Http, Reaches, NotReaches, Command, FileIs, SysctlIs, JobIs),
        *(ServiceIs, ProcessIs, PackageIs, UserIs, GroupIs, MountIs),
        *(InterfaceIs, AddressIs, RouteIs, BgpPaths, BgpSession, Ospf),
        *(Ping, Tcp, Udp, Dns, Tls, Smtp, Ssh, Ntp, UnixSocket),
    )
}
"""Every kind of check by the name that a description gives it."""


def expectation(kind: str, arguments: Mapping[str, Any]) -> Expectation:
    """The typed form of a check; `SpecError` for a kind or arguments that do not exist."""
    try:
        return typed.convert(dict(arguments), KINDS[kind])
    except KeyError:
        hint = f"the kinds of checks are {', '.join(KINDS)}"
        raise SpecError("check", f"no kind of check is called {kind!r}", hint=hint) from None
    except msgspec.ValidationError as error:
        raise SpecError("check", f"{kind}: {error}") from error


def line(check: Check, typed: Expectation) -> str:
    """A check in one line, as its verdict and reports have it: `listens: 80`, or its name."""
    always = "" if check.always_s is None else f" always for {check.always_s:g} s"
    never = "" if check.never_s is None else f" never for {check.never_s:g} s"
    said = check.name or f"{check.kind}: {typed.text()}"
    return f"{said}{always}{never}"


def attempt_inside(judged: InsideExpectation, timeout_s: float) -> Seen:
    """One attempt from within the node; what the machine lacks is an unknown, not a failure."""
    try:
        return judged.attempt(timeout_s)
    except (Unsupported, OSError) as error:
        return Seen(ok=False, unknown=True, hopeless=True, text=in_a_line(error))


def _third(verb: str) -> str:
    """A verb's third person."""
    return f"{verb}es" if verb.endswith("ch") else f"{verb}s"


def _limits(above: float | None, below: float | None) -> str:
    low = "" if above is None else f" above {above:g}"
    high = "" if below is None else f" below {below:g}"
    return f"{low} and{high}" if low and high else low or high


def _ended(result: CommandResult) -> str:
    return exit_text(result.status)


def _heard(answers: list[reach.Answer]) -> int:
    return sum(answer.reach is not reach.Reach.SILENT for answer in answers)


def _joined(items: list[Any]) -> str:
    return ", ".join(str(item) for item in items)

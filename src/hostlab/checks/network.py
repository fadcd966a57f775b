"""Checks that ask another host something of a protocol, by one module of `hostlab.probes` each."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Final

import msgspec

from hostlab.checks.kind import Asked, ProbeExpectation, milliseconds, options, unanswered
from hostlab.checks.patience import ATTEMPT_S, Seen
from hostlab.errors import DecodeError
from hostlab.probes import ntp, reach, ssh, sweep, tls, unix
from hostlab.probes.names import UnknownName, addresses
from hostlab.probes.ports import Ports, parse_ports, ranges
from hostlab.probes.stream import parse_server

SHOWN: Final = 8
"""So many hosts or ports are named in a line."""
BLAMED: Final = 1024
"""So many ports are looked for in the nodes that have not answered as wanted."""
_SHARE: Final = 0.6
"""Of a silent port's time; in the rest it is found out what its silence means."""


def endpoint(host: str, port: int) -> str:
    """`HOST:PORT`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Ping(ProbeExpectation, frozen=True, kw_only=True):
    """Hosts answer echoes."""

    kind = "ping"
    attempt_s = ATTEMPT_S

    hosts: tuple[str, ...]
    count: int = 1
    loss: float = 0.0
    """The share that may be lost."""
    rtt_s: float | None = None
    """The longest that an answer may take, by the median."""

    def text(self) -> str:
        return ", ".join(self.hosts)

    def expected(self) -> str:
        limit = f" within {self.rtt_s * 1e3:g} ms" if self.rtt_s is not None else ""
        lost = f", {self.loss:.0%} may be lost" if self.loss else ""
        return f"echoes from {self.text()}{limit}{lost}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        count = self.count if self.count > 1 else None
        said = {"--count": count, "--loss": self.loss or None, "--rtt": milliseconds(self.rtt_s)}
        return ("icmp", *self.hosts, *options(said))

    def attempt(self, timeout_s: float) -> Seen:
        try:
            found = [addresses(host)[0] for host in self.hosts]
        except UnknownName as error:
            return Seen(ok=False, text=str(error))
        every = [address for address in found for _ in range(self.count)]
        echoes = sweep.icmp(every, timeout_s=timeout_s)
        facts, bad, heard = {}, [], 0
        for index, host in enumerate(self.hosts):
            mine = echoes[index * self.count : (index + 1) * self.count]
            took = sorted(e.took_s for e in mine if e.reach is reach.Reach.ANSWERED)
            heard += sum(e.reach is not reach.Reach.SILENT for e in mine)
            facts[host] = self._facts(found[index], mine, took)
            if reason := self._reason(mine, took):
                bad.append(f"{host}: {reason}")
        if bad:
            more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            text = "; ".join(bad[:SHOWN]) + more
            return Seen(ok=False, heard=heard, text=text, facts={"hosts": facts})
        answers = [e.took_s for e in echoes if e.reach is reach.Reach.ANSWERED]
        text = f"{len(answers)} of {len(echoes)} echoes, the slowest in {max(answers) * 1e3:.2f} ms"
        return Seen(ok=True, text=text, facts={"hosts": facts})

    def _facts(self, address: str, mine: list[sweep.Echo], took: list[float]) -> dict[str, Any]:
        facts: dict[str, Any] = {"address": address, "sent": len(mine), "received": len(took)}
        if took:
            facts |= {"rtt_min_s": took[0], "rtt_median_s": took[len(took) // 2]}
            facts["rtt_max_s"] = took[-1]
        return facts

    def _reason(self, mine: list[sweep.Echo], took: list[float]) -> str:
        """Why a host's echoes are not as they should be; empty: they are."""
        lost = 1 - len(took) / len(mine)
        if not took or lost > self.loss:
            how = ", ".join(dict.fromkeys(str(e.reach) for e in mine if e.reach != "answered"))
            return f"{len(took)} of {len(mine)} echoes ({how})"
        median_s = took[len(took) // 2]
        if self.rtt_s is not None and median_s > self.rtt_s:
            return f"{median_s * 1e3:.2f} ms"
        return ""


class Tcp(ProbeExpectation, frozen=True, kw_only=True):
    """Ports of hosts complete TCP's handshake, or do not."""

    kind = "tcp"
    attempt_s = ATTEMPT_S

    targets: tuple[str, ...]
    """`HOST:PORTS`, where ports are numbers and ranges with commas."""
    want: str = "open"
    """open, closed (refused or unreachable), silent, or any."""
    at_once: int = sweep.AT_ONCE

    _wanted: ClassVar[Mapping[str, frozenset[reach.Reach]]] = {
        "open": frozenset({reach.Reach.ANSWERED}),
        "closed": frozenset({reach.Reach.REFUSED, reach.Reach.UNREACHABLE}),
        "silent": frozenset({reach.Reach.SILENT}),
        "any": frozenset(reach.Reach),
    }

    def text(self) -> str:
        more = f" and {len(self.targets) - SHOWN} more" if len(self.targets) > SHOWN else ""
        return " ".join(self.targets[:SHOWN]) + more

    def expected(self) -> str:
        return f"{self.text()} {self.want}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        want = None if self.want == "open" else self.want
        at_once = None if self.at_once == sweep.AT_ONCE else self.at_once
        return ("tcp", *self.targets, *options({"--want": want, "--at-once": at_once}))

    def asked(self) -> tuple[Asked, ...]:
        each = map(Ports.parse, self.targets)
        every = (Asked(ports.host, port) for ports in each for port in ports.ports)
        return tuple(islice(every, SHOWN))

    def blamed(self, facts: Mapping[str, Any]) -> tuple[Asked, ...]:
        if not facts:
            return self.asked()
        wanted = self._wanted[self.want]
        bad = (
            Asked(host, port)
            for host, hows in facts["hosts"].items()
            for how, ports in hows.items()
            if how not in wanted
            for port in parse_ports(ports)
        )
        return tuple(islice(bad, BLAMED))

    def attempt(self, timeout_s: float) -> Seen:
        try:
            targets = list(self._each())
        except UnknownName as error:
            return Seen(ok=False, text=str(error))
        found = sweep.tcp(
            [(address, port) for _, address, port in targets],
            timeout_s=timeout_s,
            at_once=self.at_once,
        )
        by_host: dict[str, dict[str, list[int]]] = {}
        bad: list[str] = []
        counts: dict[str, int] = {}
        for (host, _, port), how in zip(targets, found, strict=True):
            by_host.setdefault(host, {}).setdefault(str(how), []).append(port)
            counts[str(how)] = counts.get(str(how), 0) + 1
            if how not in self._wanted[self.want]:
                bad.append(f"{endpoint(host, port)} {how}")
        facts = {
            host: {how: ranges(ports) for how, ports in hows.items()}
            for host, hows in by_host.items()
        }
        counted = ", ".join(f"{number} {how}" for how, number in sorted(counts.items()))
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        text = counted if not bad else f"{', '.join(bad[:SHOWN])}{more}; {counted}"
        log = tuple(
            f"{host} {how}: {ranges(ports)}"
            for host, hows in by_host.items()
            for how, ports in hows.items()
        )
        heard = sum(how is not reach.Reach.SILENT for how in found)
        facts_of = {"hosts": facts, "counts": counts}
        return Seen(ok=not bad, heard=heard, text=text, log=log, facts=facts_of)

    def _each(self) -> Iterator[tuple[str, str, int]]:
        """Host, its address, and port; a host is looked up once."""
        for text in self.targets:
            each = Ports.parse(text)
            address = addresses(each.host)[0]
            for port in each.ports:
                yield each.host, address, port


class Udp(ProbeExpectation, frozen=True, kw_only=True):
    """A UDP port answers a datagram, or is as said."""

    kind = "udp"
    attempt_s = 2 * ATTEMPT_S

    host: str
    port: int
    send: str | None = None
    """None: what its protocol's servers answer, as far as it is known; else a line."""
    answer: str | None = None
    """A text that the answer contains."""
    want: str = "answered"
    """answered, refused or silent."""

    def text(self) -> str:
        return endpoint(self.host, self.port)

    def expected(self) -> str:
        if self.want != "answered":
            return f"{self.text()} {self.want}"
        return f"an answer{f' with {self.answer!r}' if self.answer else ''} from {self.text()}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        want = None if self.want == "answered" else self.want
        said = {"--send": self.send, "--answer": self.answer, "--want": want}
        return ("udp", self.text(), *options(said))

    def asked(self) -> tuple[Asked, ...]:
        return (Asked(self.host, self.port, "udp"),)

    def attempt(self, timeout_s: float) -> Seen:
        try:
            address = addresses(self.host)[0]
        except UnknownName as error:
            return Seen(ok=False, text=str(error))
        plain = reach.DATAGRAMS.get(self.port, reach.PLAIN_DATAGRAM)
        datagram = plain if self.send is None else self.send.encode()
        first_s = timeout_s * _SHARE
        found, reply = reach.exchange(address, self.port, datagram, timeout_s=first_s)
        facts = {"address": address, "reach": found.reach, "answer_hex": reply[:512].hex()}
        text = str(found)
        if found.reach is reach.Reach.SILENT:
            text = reach.why_silent(address, self.port, timeout_s=timeout_s - first_s)
            facts["why"] = text
            return Seen(ok=self.want == "silent", heard=0, text=text, facts=facts)
        ok = str(found.reach) == self.want
        if ok and self.answer is not None and self.answer.encode() not in reply:
            return Seen(ok=False, text=f"{text}, without that text: {reply[:80]!r}", facts=facts)
        return Seen(ok=ok, text=text, facts=facts)


class Ntp(ProbeExpectation, frozen=True, kw_only=True):
    """A server of NTP has the time."""

    kind = "ntp"
    attempt_s = ATTEMPT_S

    server: str
    stratum: int = ntp.MOST_STRATUM
    """The highest that will do."""
    offset_s: float | None = None
    """The farthest that its clock may be from this host's."""

    def text(self) -> str:
        return self.server

    def expected(self) -> str:
        near = f", no more than {self.offset_s:g} s off" if self.offset_s is not None else ""
        most = f" of stratum {self.stratum} at most" if self.stratum < ntp.MOST_STRATUM else ""
        return f"the time from {self.server}{most}{near}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        stratum = None if self.stratum == ntp.MOST_STRATUM else self.stratum
        said = {"--stratum": stratum, "--offset": milliseconds(self.offset_s)}
        return ("ntp", self.server, *options(said))

    def asked(self) -> tuple[Asked, ...]:
        return (Asked(*parse_server(self.server, ntp.PORT), "udp"),)

    def attempt(self, timeout_s: float) -> Seen:
        host, port = parse_server(self.server, ntp.PORT)
        try:
            answer, said = ntp.ask(addresses(host)[0], port, timeout_s=timeout_s)
        except (UnknownName, DecodeError) as error:
            return Seen(ok=False, text=str(error))
        if said is None:
            heard = int(answer.reach is not reach.Reach.SILENT)
            return Seen(ok=False, heard=heard, text=str(answer))
        facts = msgspec.to_builtins(said)
        text = (
            f"stratum {said.stratum} ({said.reference}), {said.offset_s * 1e3:+.3f} ms,"
            f" root dispersion {said.root_dispersion_s * 1e3:.1f} ms"
        )
        if said.problem:
            return Seen(ok=False, text=said.problem, facts=facts)
        ok = said.stratum <= self.stratum
        ok &= self.offset_s is None or abs(said.offset_s) <= self.offset_s
        return Seen(ok=ok, text=text, facts=facts)


class Ssh(ProbeExpectation, frozen=True, kw_only=True):
    """A server of SSH introduces itself."""

    kind = "ssh"

    server: str
    banner: str | None = None
    """A text that the banner contains."""
    without: tuple[str, ...] = ()
    """Algorithms that it must not offer."""

    def text(self) -> str:
        return self.server

    def expected(self) -> str:
        words = f" with {self.banner!r}" if self.banner else ""
        less = f", without {', '.join(self.without)}" if self.without else ""
        return f"a banner of SSH{words} from {self.server}{less}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("ssh", self.server, *options({"--banner": self.banner, "--without": self.without}))

    def asked(self) -> tuple[Asked, ...]:
        return (Asked(*parse_server(self.server, ssh.PORT)),)

    def attempt(self, timeout_s: float) -> Seen:
        host, port = parse_server(self.server, ssh.PORT)
        try:
            said = ssh.ask(host, port, timeout_s=timeout_s)
        except DecodeError as error:
            return Seen(ok=False, text=error.message)
        except (UnknownName, OSError) as error:
            return unanswered(error)
        facts = msgspec.to_builtins(said)
        text = f"{said.banner} from {said.address}"
        log = tuple(f"{name}: {' '.join(words)}" for name, words in said.offers.items())
        if self.banner is not None and self.banner not in said.banner:
            return Seen(ok=False, text=text, log=log, facts=facts)
        offered = {word for words in said.offers.values() for word in words}
        if bad := [word for word in self.without if word in offered]:
            text = f"it offers {', '.join(bad)}"
            return Seen(ok=False, text=text, log=log, facts=facts)
        return Seen(ok=True, text=text, log=log, facts=facts)


class Tls(ProbeExpectation, frozen=True, kw_only=True):
    """A server speaks TLS with a certificate that is good for a while."""

    kind = "tls"

    server: str
    name: str | None = None
    """The name to ask for and to find in the certificate; None: the server's."""
    verify: bool = True
    authorities: str | None = None
    """A file of certificates that are trusted instead of the host's own."""
    days: float = 0.0
    """How long it has to be good yet."""
    names: tuple[str, ...] = ()
    """What the certificate has to be for, beside."""
    least: str | None = None
    """The oldest version that may be agreed on: TLSv1.2 or TLSv1.3."""
    alpn: tuple[str, ...] = ()

    def text(self) -> str:
        return self.server

    def expected(self) -> str:
        days = f" for {self.days:g} days yet" if self.days else ""
        least = f"{self.least} or later" if self.least else "TLS"
        return f"{least} and a good certificate{days} from {self.server}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        said = {
            "--no-verify": not self.verify,
            "--name": self.name,
            "--authorities": self.authorities,
            "--days": self.days or None,
            "--names": self.names,
            "--least": self.least,
            "--alpn": self.alpn,
        }
        return ("tls", self.server, *options(said))

    def asked(self) -> tuple[Asked, ...]:
        return (Asked(*parse_server(self.server, tls.PORT)),)

    def attempt(self, timeout_s: float) -> Seen:
        host, port = parse_server(self.server, tls.PORT)
        question = tls.Question(
            host=host,
            port=port,
            name=self.name or host,
            verify=self.verify,
            authorities=self.authorities,
            alpn=self.alpn,
        )
        try:
            said = tls.ask(question, timeout_s=timeout_s)
        except FileNotFoundError as error:
            text = f"{error.filename or self.authorities}: {error.strerror}"
            return Seen(ok=False, unknown=True, hopeless=True, text=text)
        except (UnknownName, OSError, ssl.SSLError) as error:
            return unanswered(error)
        except DecodeError as error:
            return Seen(ok=False, text=error.message)
        return self._judged(said)

    def _judged(self, said: tls.Handshake) -> Seen:
        now = time.time()
        facts = msgspec.to_builtins(said)
        facts["days_left"] = days = said.certificate.days_left(now)
        text = (
            f"{said.version}, {said.cipher}, for {', '.join(said.certificate.names) or 'nobody'},"
            f" {days:.0f} days left"
        )
        log = said.lines()
        missing = [each for each in self.names if each not in said.certificate.names]
        problems = [
            said.refused and f"the certificate is refused: {said.refused}",
            missing and f"it is not for {', '.join(missing)}",
            days < self.days and f"it is good for {days:.1f} days",
            self.least is not None and said.version < self.least and f"{said.version} is agreed on",
        ]
        if found := [str(each) for each in problems if each]:
            return Seen(ok=False, text=f"{'; '.join(found)} ({text})", log=log, facts=facts)
        return Seen(ok=True, text=text, log=log, facts=facts)


class UnixSocket(ProbeExpectation, frozen=True, kw_only=True):
    """A Unix socket takes a connection, and answers what is sent."""

    kind = "unix"

    path: str
    type: str | None = None
    """stream, datagram or seqpacket; None: any."""
    send: str | None = None
    answer: str | None = None
    """A regular expression that the answer has somewhere."""

    def text(self) -> str:
        return self.path

    def expected(self) -> str:
        kind = f"a {self.type} socket" if self.type else "a socket"
        answer = f" that answers {self.answer!r}" if self.answer else ""
        return f"{kind}{answer} at {self.path}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        said = {"--type": self.type, "--send": self.send, "--answer": self.answer}
        return ("unix", self.path, *options(said))

    def attempt(self, timeout_s: float) -> Seen:
        until = time.monotonic() + timeout_s
        try:
            sock, kind = unix.connect(self.path, timeout_s=timeout_s)
        except OSError as error:
            return Seen(ok=False, text=f"{self.path}: {error.strerror}")
        with sock:
            peer = unix.peer(sock)
            facts: dict[str, Any] = {"type": kind, "peer": msgspec.to_builtins(peer)}
            text = f"a {kind} socket" + (f" of user {peer.uid}" if kind != "datagram" else "")
            if self.type not in (None, kind):
                return Seen(ok=False, text=f"it is {text}", facts=facts)
            if self.send is not None:
                sock.send(self.send.encode())
            if self.answer is None:
                return Seen(ok=True, text=text, facts=facts)
            data, fds = unix.converse(sock, self.answer.encode(), until)
        facts |= {"answer": data.decode(errors="replace"), "descriptors": fds}
        log = (*data.decode(errors="replace").splitlines(), *(f"descriptor: {fd}" for fd in fds))
        ok = re.search(self.answer.encode(), data) is not None
        said = f"{text} that answers {data[:80]!r}" if data else f"{text} that says nothing"
        return Seen(ok=ok, text=said, log=log, facts=facts)

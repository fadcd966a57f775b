"""A check of the DNS: servers asked, for clients of several networks, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec

from hostlab.checks.kind import Asked, Options, ProbeExpectation, options
from hostlab.checks.patience import Seen
from hostlab.errors import DecodeError, Unsupported
from hostlab.probes import dns
from hostlab.probes.dns_trace import trace
from hostlab.probes.stream import parse_server


class Dns(ProbeExpectation, frozen=True, kw_only=True):
    """Every server asked answers as said, and all of them the same."""

    kind = "dns"
    attempt_s = 3.0

    name: str
    type: str = "A"
    servers: tuple[str, ...] = ()
    """None: the first of the host's own resolvers."""
    answer: tuple[str, ...] | None = None
    """Exactly these records' data."""
    rcode: str = "NOERROR"
    subnets: tuple[str, ...] = ()
    """Clients' networks to ask for, each."""
    scope: int | None = None
    """For how many bits of the subnet each answer must hold."""
    distinct: bool = False
    """The answers for these subnets must differ."""
    tcp: bool = False
    recursion: bool = True
    authoritative: bool = False
    dnssec: bool = False
    trace: bool = False
    """Ask from the root (or `servers`) down instead."""

    def text(self) -> str:
        at = f" at {', '.join(self.servers)}" if self.servers else ""
        subnets = f" for {', '.join(self.subnets)}" if self.subnets else ""
        return f"{self.name} {self.type}{at}{subnets}"

    def expected(self) -> str:
        if self.rcode != "NOERROR":
            what = self.rcode
        elif self.answer is not None:
            what = ", ".join(self.answer) or "no record"
        else:
            what = "an answer"
        distinct = ", another for each subnet" if self.distinct else ""
        scope = f" with scope /{self.scope}" if self.scope is not None else ""
        return f"{what}{scope} to {self.name} {self.type}{distinct}"

    def asked(self) -> tuple[Asked, ...]:
        protocol = "tcp" if self.tcp else "udp"
        return tuple(Asked(*parse_server(each, dns.PORT), protocol) for each in self.servers)

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        said: Options = {
            "--server": self.servers,
            "--subnet": self.subnets,
            "--tcp": self.tcp,
            "--no-recursion": not self.recursion,
            "--trace": self.trace,
            "--answer": self.answer,
            "--rcode": None if self.rcode == "NOERROR" else self.rcode,
            "--scope": self.scope,
            "--distinct": self.distinct,
            "--authoritative": self.authoritative,
            "--dnssec": self.dnssec,
        }
        return ("dns", self.name, self.type, *options(said))

    def prepare(self) -> None:
        with suppress(Unsupported):  # an attempt says so
            dns.load()

    def attempt(self, timeout_s: float) -> Seen:
        dns.load()
        try:
            return self._traced(timeout_s) if self.trace else self._compared(timeout_s)
        except dns.NoAnswer as error:
            return Seen(ok=False, heard=0, text=str(error))
        except DecodeError as error:
            return Seen(ok=False, text=error.message)

    def _question(self, subnet: str | None) -> dns.Question:
        return dns.Question(
            name=self.name,
            type=self.type,
            tcp=self.tcp,
            subnet=subnet,
            recursion=self.recursion,
            dnssec=self.dnssec,
        )

    def _compared(self, timeout_s: float) -> Seen:
        servers = self.servers or dns.own_resolvers()[:1]
        subnets: Sequence[str | None] = self.subnets or (None,)
        share_s = timeout_s / (len(servers) * len(subnets))
        found = []
        for subnet in subnets:
            for server in servers:
                host, port = parse_server(server, dns.PORT)
                found.append(dns.ask(self._question(subnet), host, port, timeout_s=share_s))
        problems = list(self._problems(found, len(servers)))
        log = tuple(line for each in found for line in each.lines())
        facts: dict[str, Any] = {"responses": msgspec.to_builtins(found), "findings": problems}
        text = "; ".join(problems) or _summary(found)
        return Seen(ok=not problems, text=text, log=log, facts=facts)

    def _problems(self, found: Sequence[dns.Response], servers: int) -> Iterator[str]:
        """What is not as said; the responses stand subnet by subnet, in the order of servers."""
        for each in found:
            yield from self._problems_of(each)
        by_subnet = [found[first : first + servers] for first in range(0, len(found), servers)]
        for same in by_subnet:
            for one, other in pairwise(same):
                if (one.rcode, one.data) != (other.rcode, other.data):
                    where = f" for {one.question.subnet}" if one.question.subnet else ""
                    yield f"the servers differ{where}: {_said(one)}; {_said(other)}"
        if self.distinct:
            for index, group in enumerate(by_subnet):
                for later in by_subnet[index + 1 :]:
                    if group[0].data == later[0].data:
                        these = f"{group[0].question.subnet} and {later[0].question.subnet}"
                        yield f"{these} are answered the same: {_said(group[0])}"

    def _problems_of(self, each: dns.Response) -> Iterator[str]:
        where = f" for {each.question.subnet}" if each.question.subnet else ""
        if each.rcode != self.rcode:
            yield f"{each.server} answers {each.rcode}{where}"
        elif self.answer is not None and set(each.data) != set(self.answer):
            yield f"{_said(each)}{where}"
        elif self.answer is None and self.rcode == "NOERROR" and not each.data:
            yield f"{each.server} has no {self.type} record of {self.name}{where}"
        if self.authoritative and "aa" not in each.flags:
            yield f"{each.server} answers without authority"
        if self.scope is not None and each.scope != self.scope:
            said = "no scope" if each.scope is None else f"scope /{each.scope}"
            yield f"{each.server} answers with {said}{where}"
        yield from dns.mail_findings(each)

    def _traced(self, timeout_s: float) -> Seen:
        hosts = tuple(parse_server(server, dns.PORT)[0] for server in self.servers)
        port = parse_server(self.servers[0], dns.PORT)[1] if self.servers else dns.PORT
        steps = trace(self._question(None), hosts, port, timeout_s=timeout_s)
        log = tuple(step.line() for step in steps)
        facts = {"steps": msgspec.to_builtins(steps)}
        last = steps[-1]
        if last.problem or last.response is None:
            return Seen(ok=False, text=f"{last.zone} {last.problem}", log=log, facts=facts)
        problems = list(self._problems_of(last.response))
        text = "; ".join(problems) or f"{_said(last.response)}, in {len(steps)} steps"
        return Seen(ok=not problems, text=text, log=log, facts=facts)


def _said(each: dns.Response) -> str:
    said = ", ".join(each.data) or (each.rcode if each.rcode != "NOERROR" else "no record")
    return f"{each.server} says {said}"


def _summary(found: Sequence[dns.Response]) -> str:
    texts = []
    for each in found:
        scope = "" if each.scope is None else f" (scope /{each.scope})"
        where = f" for {each.question.subnet}" if each.question.subnet else ""
        texts.append(f"{_said(each)}{where}{scope}")
    return "; ".join(dict.fromkeys(texts))

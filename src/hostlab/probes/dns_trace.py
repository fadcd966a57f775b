"""The way of a question from the root down: who refers to whom, and where it breaks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from hostlab.errors import DecodeError
from hostlab.probes.dns import NoAnswer, Question, Response, Row, ask, own_resolvers
from hostlab.probes.names import UnknownName, addresses

MOST_STEPS: Final = 24
_SERVERS: Final = 4
"""As many of a zone's servers are tried."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One zone's servers asked."""

    zone: str
    servers: tuple[str, ...]
    response: Response | None = None
    problem: str = ""
    """Why it went no further; empty when it did, or is the answer."""

    def line(self) -> str:
        """The step in a line."""
        if self.response is None:
            return f"{self.zone} ({', '.join(self.servers)}): {self.problem}"
        said = self.response
        if said.answers:
            text = "answers " + ", ".join(f"{row.type} {row.data}" for row in said.answers)
        elif self.problem:
            text = self.problem
        elif zone := _referred(said, self.zone):
            names = ", ".join(row.data for row in said.authority if row.type == "NS")
            text = f"refers to {zone} at {names}"
        else:
            text = f"says {said.rcode}, no such record"
        return f"{self.zone} ({said.server}): {text}"


def trace(
    question: Question, roots: Sequence[str], port: int, *, timeout_s: float
) -> tuple[Step, ...]:
    """Ask from `roots` (addresses or names) down; none given: those that the host's resolver knows.

    The last step has the answer, or a problem.
    """
    until = time.monotonic() + timeout_s
    plain = msgspec.structs.replace(question, recursion=False)
    zone, servers = ".", tuple(roots) or _root_servers(port, until)
    steps: list[Step] = []
    while len(steps) < MOST_STEPS:
        response, problem = _first(plain, servers, port, until)
        if response is None:
            steps.append(Step(zone=zone, servers=servers, problem=problem))
            break
        step = Step(zone=zone, servers=servers, response=response)
        below = _referred(response, zone)
        if response.answers or response.rcode != "NOERROR" or "aa" in response.flags:
            if response.rcode not in ("NOERROR", "NXDOMAIN"):
                step = msgspec.structs.replace(step, problem=f"answers {response.rcode}")
            steps.append(step)
            break
        if not below:
            text = "neither answers nor refers to a zone below: a lame delegation"
            steps.append(msgspec.structs.replace(step, problem=text))
            break
        steps.append(step)
        zone, servers = below, _servers_of(response, below)
        if not servers:
            text = "its servers have no address, neither here nor for the resolver"
            steps.append(Step(zone=zone, servers=(), problem=text))
            break
    else:
        steps[-1] = msgspec.structs.replace(steps[-1], problem=f"no end after {MOST_STEPS} steps")
    return tuple(steps)


def _root_servers(port: int, until: float) -> tuple[str, ...]:
    question = Question(name=".", type="NS")
    response, problem = _first(question, own_resolvers(), port, until)
    found = () if response is None else _servers_of(response, ".")
    if not found:
        raise NoAnswer(f"the resolver does not know the root: {problem or 'no address of it'}")
    return found


def _first(
    question: Question, servers: Sequence[str], port: int, until: float
) -> tuple[Response | None, str]:
    """The first answer that one of the servers gives, each having its share of the time."""
    problem = ""
    few = servers[:_SERVERS]
    for index, server in enumerate(few):
        share_s = max(0.0, until - time.monotonic()) / (len(few) - index)
        try:
            return ask(question, server, port, timeout_s=share_s), ""
        except (NoAnswer, DecodeError) as error:
            problem = str(error)
    return None, problem


def _referred(response: Response, zone: str) -> str:
    """The zone below `zone` that an answer refers to, on the way to the name; empty: none."""
    name = _labels(response.question.name)
    for row in response.authority:
        owner = _labels(row.name)
        deeper = len(owner) > len(_labels(zone))
        if row.type == "NS" and deeper and name[len(name) - len(owner) :] == owner:
            return row.name
    return ""


def _labels(name: str) -> list[str]:
    return [label for label in name.lower().split(".") if label]


def _servers_of(response: Response, zone: str) -> tuple[str, ...]:
    """Addresses of a zone's servers: as the answer tells, else as the host's resolver knows."""
    rows: tuple[Row, ...] = (*response.answers, *response.authority)
    names = [row.data for row in rows if row.type == "NS" and _labels(row.name) == _labels(zone)]
    glue = [
        row.data for row in response.additional if row.type in ("A", "AAAA") and row.name in names
    ]
    # IPv4 first: not every host has a way to the world by IPv6.
    glue.sort(key=lambda address: ":" in address)
    if glue:
        return tuple(glue)
    found: list[str] = []
    for name in names[:_SERVERS]:
        try:
            found += addresses(name.rstrip("."))
        except UnknownName:
            continue
    return tuple(found)

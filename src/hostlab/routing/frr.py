"""FRR's daemons: the sockets by which vtysh speaks to them, and what they log meanwhile.

A command ends with NUL; an answer ends with three of them and its status. `terminal monitor`
answers with a descriptor on which each line of the log is a packet (FRR 8.1, lib/zlog_live.c).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from hostlab.errors import Failed
from hostlab.linux.scm_rights import receive
from hostlab.routing.expected import IPV4, IPV6, Adjacency
from hostlab.routing.sessions import ANSWER_S, Gone, Neighbour, Sessions, with_interface

_END: Final = b"\0\0\0"
_MAX_BYTES: Final = 1 << 26
_PACKETS: Final = 1 << 12
"""Of a log, taken in at once."""


class VtySocket:
    """A connection to one daemon."""

    def __init__(self, daemon: str, sock: socket.socket, *, answer_s: float = ANSWER_S) -> None:
        self.daemon = daemon
        self.socket = sock
        self.answer_s = answer_s
        self.ask("enable")

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def ask(self, command: str) -> str:
        """The answer; Failed with the daemon's words when it has a status other than 0."""
        answer, fds = self._exchange(command)
        assert not fds, "no other command passes descriptors"
        return answer

    def monitor(self) -> socket.socket:
        """On which the daemon's log is from now on."""
        _, fds = self._exchange("terminal monitor")
        if len(fds) != 1:
            raise Failed("frr", f"{self.daemon} gives no log", hint="FRR 8.1 and later do")
        return socket.socket(fileno=fds[0])

    def _exchange(self, command: str) -> tuple[str, list[int]]:
        parts: list[bytes] = []
        found: list[int] = []
        size = 0
        self.socket.settimeout(self.answer_s)
        try:
            self.socket.sendall(command.encode() + b"\0")
            while True:
                data, fds = receive(self.socket, 1 << 16)
                found += fds
                if not data:
                    raise self._gone()
                parts.append(data)
                size += len(data)
                if size > _MAX_BYTES:
                    raise Failed("frr", f"{self.daemon} answers with more than {_MAX_BYTES} bytes")
                tail = b"".join(parts[-4:])[-4:]
                if len(tail) == 4 and tail[:3] == _END:
                    break
        except TimeoutError:
            message = f"{self.daemon} has not answered in {self.answer_s:.3g} s"
            raise Failed("frr", message) from None
        except ConnectionError:
            raise self._gone() from None
        text = b"".join(parts)[:-4].decode(errors="replace")
        if tail[3]:
            raise Failed("frr", f"{self.daemon} says to {command!r}: {text.strip()}")
        return text, found

    def _gone(self) -> Gone:
        hint = f"`hostlab job log {self.daemon}` may tell why"
        return Gone("frr", f"{self.daemon} has hung up", hint=hint)


class Frr:
    """A node's daemons of FRR (sessions.Daemons)."""

    def __init__(self, sockets: Mapping[str, socket.socket], *, answer_s: float = ANSWER_S) -> None:
        self._daemons = {
            name: VtySocket(name, sock, answer_s=answer_s) for name, sock in sockets.items()
        }
        self._logs = [daemon.monitor() for daemon in self._daemons.values()]

    def filenos(self) -> tuple[int, ...]:
        return tuple(log.fileno() for log in self._logs)

    def hear(self) -> bool:
        return all(map(_drain, self._logs))

    def has_told(self) -> bool:
        # Logs have descriptors of their own.
        return False

    def close(self) -> None:
        for log in self._logs:
            log.close()
        for daemon in self._daemons.values():
            daemon.close()

    def sessions(self, *, answer_s: float = ANSWER_S) -> Sessions:
        for daemon in self._daemons.values():
            daemon.answer_s = answer_s
        found = Sessions()
        if "ospfd" in self._daemons:
            _ospf4(self._json("ospfd", "show ip ospf neighbor json"), found)
        if "ospf6d" in self._daemons:
            _ospf6(self._json("ospf6d", "show ipv6 ospf6 neighbor json"), found)
        if "bgpd" in self._daemons:
            for part in self._json("bgpd", "show bgp summary json").values():
                for address, peer in part.get("peers", {}).items():
                    found.peers[address] = peer["state"]
        if "bfdd" in self._daemons:
            for row in self._json("bfdd", "show bfd peers json"):
                found.bfd[with_interface(row["peer"], row.get("interface", ""))] = row["status"]
        return found

    def _json(self, daemon: str, command: str) -> Any:
        text = self._daemons[daemon].ask(command)
        try:
            # ospfd says nothing at all before its process of OSPF is there.
            return json.loads(text) if text.strip() else {}
        except ValueError:
            message = f"{daemon} answers to {command!r}: {text[:200].strip()}"
            raise Failed("frr", message) from None


def _ospf4(answer: dict[str, Any], found: Sessions) -> None:
    for router_id, rows in answer.get("neighbors", {}).items():
        for row in rows:
            where = Adjacency(IPV4, row["ifaceName"].partition(":")[0])
            _add(found, where, router_id, row["nbrState"])


def _ospf6(answer: dict[str, Any], found: Sessions) -> None:
    for row in answer.get("neighbors", []):
        _add(found, Adjacency(IPV6, row["interfaceName"]), row["neighborId"], row["state"])


def _add(found: Sessions, where: Adjacency, router_id: str, words: str) -> None:
    state = words.partition("/")[0]
    # ospfd says 2-Way, and ospf6d Twoway.
    neighbour = Neighbour(router_id, words, state == "Full", state in {"2-Way", "Twoway"})
    found.neighbours.setdefault(where, {})[router_id] = neighbour


def _drain(log: socket.socket) -> bool:
    for _ in range(_PACKETS):
        try:
            if not log.recv(1, socket.MSG_DONTWAIT):
                return False
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
    return True

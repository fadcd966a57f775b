"""The variables that Docker's links gave.

For a link `server:dingdong` of node `web` and each port that `server` exposes, lowest first and
tcp before udp: `DINGDONG_PORT_8000_TCP=tcp://10.0.0.2:8000` with `_ADDR`, `_PORT` and `_PROTO`;
`DINGDONG_PORT` is the first of them; ports that follow each other have `_START` and `_END` too;
`DINGDONG_NAME=/web/dingdong`; and `DINGDONG_ENV_KEY` for each variable of the server but HOME and
PATH (docs.docker.com, "Legacy container links").
"""

from __future__ import annotations

from collections.abc import Iterable

from hostlab.spec.units import Endpoint


def variables(
    node: str,
    alias: str,
    address: str,
    ports: Iterable[Endpoint],
    environment: Iterable[tuple[str, str]],
) -> list[tuple[str, str]]:
    """What a node learns of another under an alias; the address is None when it has none."""
    name = alias.upper().replace("-", "_").replace(".", "_")
    host = f"[{address}]" if ":" in address else address
    ordered = sorted(set(ports), key=lambda p: (p.port, p.protocol != "tcp"))
    result: list[tuple[str, str]] = []
    start = end = None
    for number, port in enumerate(ordered):
        url = f"{port.protocol}://{host}:{port.port}"
        if number == 0:
            result.append((f"{name}_PORT", url))
        prefix = f"{name}_PORT_{port.port}_{port.protocol.upper()}"
        result += [
            (prefix, url),
            (f"{prefix}_ADDR", address),
            (f"{prefix}_PORT", str(port.port)),
            (f"{prefix}_PROTO", port.protocol),
        ]
        if end is None or port != Endpoint(end.port + 1, end.protocol):
            start = port
        end = port
        following = ordered[number + 1] if number + 1 < len(ordered) else None
        if start is not None and start != end and following != Endpoint(end.port + 1, end.protocol):
            result += _range(name, host, start, end)
    result.append((f"{name}_NAME", f"/{node}/{alias}"))
    result += [
        (f"{name}_ENV_{key}", value) for key, value in environment if key not in ("HOME", "PATH")
    ]
    return result


def _range(name: str, host: str, start: Endpoint, end: Endpoint) -> list[tuple[str, str]]:
    prefix = f"{name}_PORT_{start.port}_{start.protocol.upper()}"
    return [
        (f"{prefix}_START", f"{start.protocol}://{host}:{start.port}"),
        (f"{prefix}_PORT_START", str(start.port)),
        (f"{prefix}_END", f"{end.protocol}://{host}:{end.port}"),
        (f"{prefix}_PORT_END", str(end.port)),
    ]

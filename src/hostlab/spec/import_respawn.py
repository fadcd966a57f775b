"""Docker's restart policies as a job's `respawn`: what two importers share."""

from __future__ import annotations

from typing import Any, Final

from hostlab.spec.importing import whole

_DELAY: Final = ("100ms", "1m")
"""Docker's back-off: it begins with 100 ms and doubles up to a minute (dockerd, "restart")."""
_INTERVAL: Final = "1m"
"""Docker counts for as long as the container lives shorter than ten seconds; this is near to it."""


def respawn(policy: str | None) -> dict[str, Any] | None:
    """Keys of a job; none for `no` or nothing, None for what is no policy.

    `always`, `unless-stopped` and `on-failure`, each with or without `:COUNT`.
    """
    word, _, most = (policy or "no").partition(":")
    if word == "no":
        return {}
    if word not in ("always", "unless-stopped", "on-failure") or (most and not whole(most) > 0):
        return None
    how: dict[str, Any] = {"limit": whole(most) if most else "unlimited", "delay": list(_DELAY)}
    if most:
        how["interval"] = _INTERVAL
    found: dict[str, Any] = {"respawn": how}
    if word == "on-failure":
        found["normal_exit"] = [0]
    return found

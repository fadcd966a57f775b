"""What the cgroups of jobs are named."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "job."
NAME_MAX: Final = 200


def group_name(job: str, instance: str) -> str:
    """The directory of an instance; different instances have different ones."""
    name = PREFIX + _escaped(job) + (f":{_escaped(instance)}" if instance else "")
    if len(name.encode(errors="surrogateescape")) <= NAME_MAX:
        return name
    import hashlib  # Seldom needed.

    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    return f"{PREFIX}:{digest}"


def _escaped(text: str) -> str:
    for character in "%/:\n\0":
        text = text.replace(character, f"%{ord(character):02x}")
    return text

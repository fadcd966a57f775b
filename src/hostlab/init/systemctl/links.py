"""The verbs of systemctl that change links and variables, for the next boot or the next start."""

from __future__ import annotations

import os
from typing import Final

from hostlab.init.systemctl.control import start, stop
from hostlab.init.systemctl.enabling import RUNTIME, SYSTEM, Enabling
from hostlab.init.systemctl.line import Refused
from hostlab.init.systemctl.manager import Call
from hostlab.jobs import facts

_WITHOUT_NAMES: Final = frozenset({"preset-all"})


async def change(call: Call) -> None:
    """enable, disable, mask and their kin; `--now` starts or stops too."""
    if not call.words and call.verb not in _WITHOUT_NAMES:
        raise Refused("Too few arguments.")
    enabling = Enabling(
        call.manager.files, directory=_directory(call), force=call.line.has("force")
    )
    refused: Refused | None = None
    try:
        _change(call, enabling)
    except Refused as error:
        refused = error
    if not call.is_quiet:
        call.err += enabling.said
    if refused is not None:
        call.complain(refused.text, refused.status)
        return
    if enabling.said and not call.line.has("no-reload"):
        await call.manager.units.refresh()
    if call.line.has("now"):
        await _now(call, enabling.units)


def _change(call: Call, enabling: Enabling) -> None:
    words = call.words
    match call.verb:
        case "enable" | "disable" | "reenable":
            names = [word if word.startswith("/") else name for word in words
                     for name in _named(call, word)]  # fmt: skip
            getattr(enabling, call.verb)(names)
        case "preset":
            enabling.preset(call.units(files=True), mode=call.line.last("preset-mode", "full"))
        case "preset-all":
            names = [name for name, state, _ in call.manager.files.listed()
                     if state in ("enabled", "disabled", "indirect")]  # fmt: skip
            enabling.preset(names, mode=call.line.last("preset-mode", "full"))
        case "mask":
            enabling.mask(call.units(files=True))
        case "unmask":
            enabling.unmask(call.units(files=True))
        case "set-default":
            (name, *_) = call.units()
            enabling.set_default(name if "." in words[0] else f"{words[0]}.target")
        case verb:
            if len(words) < 2:
                raise Refused("Too few arguments.")
            target, *names = call.units()
            folder = ".wants" if verb == "add-wants" else ".requires"
            enabling.add(target, names, folder)


def _named(call: Call, word: str) -> list[str]:
    return [word] if word.startswith("/") else call.manager.named([word], files=True)


async def _now(call: Call, names: list[str]) -> None:
    call.line.words[:] = names
    if not names:
        return
    if call.verb in ("enable", "reenable", "unmask"):
        await start(call)
    else:
        await stop(call)


def _directory(call: Call) -> str:
    library = call.manager.units.library
    place = call.manager.supervisor.place
    if call.manager.units.wanted.directories:
        # Whoever has units elsewhere has their links there.
        return library.directories[0]
    if not place.is_user:
        return RUNTIME if call.line.has("runtime") else SYSTEM
    kind = "XDG_RUNTIME_DIR" if call.line.has("runtime") else "XDG_CONFIG_HOME"
    base = place.environment.get(kind) or os.path.expanduser("~/.config")
    return f"{base}/systemd/user"


async def show_environment(call: Call) -> None:
    """show-environment."""
    environment = call.manager.supervisor.jobs.engine.environment
    call.out += [f"{key}={value}" for key, value in sorted(environment.items())]


async def set_environment(call: Call) -> None:
    """set-environment and unset-environment."""
    if not call.words:
        raise Refused("Too few arguments.")
    for word in call.words:
        key, equals, value = word.partition("=")
        if call.verb == "set-environment" and not equals:
            raise Refused(f"Failed to set environment: {word}: Invalid argument")
        said = value if call.verb == "set-environment" else None
        call.manager.supervisor.jobs.tell(facts.SetVariable(name=key, value=said))

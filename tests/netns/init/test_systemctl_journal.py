"""journalctl, where what it is asked for stands in a pipe yet."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hostlab.init.initctl.surroundings import Command
from hostlab.init.systemctl.journal import Journalctl
from tests.netns.init.log_site import logging

pytestmark = pytest.mark.netns


def test_what_was_written_before_it_was_asked_is_shown(tmp_path: Path) -> None:
    async def main() -> str:
        place = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        async with logging(tmp_path) as logs:
            units = SimpleNamespace(library=SimpleNamespace(resolve=str))
            supervisor = SimpleNamespace(
                units=units,
                place=SimpleNamespace(log_dir=place),
                jobs=SimpleNamespace(logs=logs, engine=SimpleNamespace(classes={})),
            )
            writer = logs.writer("web.service")
            os.write(writer, b"reloaded\n")
            command = Command("journalctl", ("-u", "web", "-n", "1"), "token", 0.0, {})
            answer = await Journalctl(cast("Any", supervisor)).run(command)
            os.close(writer)
        os.close(place)
        return answer.out

    assert asyncio.run(main()) == "reloaded\n"

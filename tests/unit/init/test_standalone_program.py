"""What the holder of an init without a lab loads, and what it passes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hostlab.init.standalone.program import PASSED_ON
from hostlab.init.standalone.supervisor import SIGNALS

pytestmark = pytest.mark.unit

HEAVY = {"asyncio", "dataclasses", "inspect", "msgspec", "re", "ssl", "typing"}


def said(program: str, *options: str) -> set[str]:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            *options,
            "-c",
            f"import sys; sys.path[:] = {sys.path!r}; {program}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_a_holder_loads_nothing_that_it_does_not_need() -> None:
    # Without `site`, by which an environment for development loads more.
    loaded = said("import hostlab.init.standalone.program; print(*sys.modules)", "-S")
    assert "hostlab.init.holder" in loaded
    assert not loaded & HEAVY


def test_asyncio_is_loaded_without_tls_and_tls_is_there_afterwards() -> None:
    found = said(
        "from hostlab.init.without_tls import load_asyncio; load_asyncio();"
        "print(*sys.modules); import ssl; print(ssl.__name__, ssl.create_default_context().options)"
    )
    assert "asyncio" in found
    assert "_ssl" not in found
    assert "ssl" in found


def test_every_signal_that_is_passed_on_means_something() -> None:
    assert set(PASSED_ON) == set(SIGNALS)

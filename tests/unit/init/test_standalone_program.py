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


def test_what_is_needless_is_not_loaded_and_there_for_who_wants_it() -> None:
    found = said(
        "from hostlab.init.lean import without_needless\n"
        "with without_needless(): import hostlab.lab.hub, hostlab.init.standalone.supervisor\n"
        "import hashlib; assert len(hashlib.sha256().digest()) == len(hashlib.blake2s().digest())\n"
        "print(*sys.modules); import ssl, lzma; print(ssl.create_default_context().options)"
    )
    assert {"asyncio", "shutil", "uuid"} <= found
    assert not found & {"_ssl", "_hashlib", "bz2", "_lzma", "zlib", "_uuid"}


def test_every_signal_that_is_passed_on_means_something() -> None:
    assert set(PASSED_ON) == set(SIGNALS)

"""Probes as people call them: the command line, in this process, and what it says."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest

from hostlab.cli.main import run
from hostlab.sync import Lab

PATIENT = "60s"
"""For what is decided by an answer, however long a busy machine takes for it."""
SHORT = "1s"
"""For what is decided by silence."""


def needs(*programs: str) -> None:
    """Skip where these are not installed, or the user is not root: daemons become others."""
    search = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    missing = [each for each in programs if shutil.which(each, path=search) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: `make dev` as root installs them")
    if os.geteuid():
        pytest.skip("only root's lab has the users that the daemons become")


class Probe:
    """Calls `hostlab probe` and `talk` from a node of a lab."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
        self.lab = lab.description.name
        self._capsys = capsys

    def words(self, *words: str, status: int) -> str:
        """The output of a command that ends with this status."""
        self._capsys.readouterr()
        found = run(list(words))
        out, err = self._capsys.readouterr()
        assert found == status, f"{words}: {found} instead of {status}\n{out}{err}"
        return out + err

    def __call__(
        self, *words: str, status: int = 0, node: str = "client", timeout: str = PATIENT
    ) -> dict[str, Any]:
        """The verdict of one probe, from a node."""
        where = () if words[0] in ("bgp", "ospf") else ("--from", f"{self.lab}/{node}")
        said = self.words("probe", *words, *where, "--timeout", timeout, "--json", status=status)
        (row,) = json.loads(said)["rows"]
        assert isinstance(row, dict)
        return row

    def awaited(self, *words: str, node: str = "client") -> dict[str, Any]:
        """The verdict of a probe that is asked again until it holds."""
        return self(*words, "--within", PATIENT, node=node)

    def talk(self, *words: str, status: int = 0, node: str = "web") -> dict[str, Any]:
        """A dialogue by a script, as JSON."""
        where = ("--from", f"{self.lab}/{node}")
        said = self.words("talk", *words, *where, "--timeout", PATIENT, "--json", status=status)
        found = json.loads(said)
        assert isinstance(found, dict)
        return found

"""runc: a container of busybox, run once for `true`, or kept for `runc exec`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.peers.spawn import command_missing, mean_ms, spawn


def runc_missing() -> str | None:
    """Why runc cannot be measured, with the way to get it; None when it can."""
    if os.geteuid() != 0:
        return "runc is measured as root only"
    return command_missing("runc", "runc") or command_missing("busybox", "busybox-static")


def runc_run_true(times: int, *, namespaces: Sequence[str] | None = None) -> float:
    """Milliseconds of `runc run` of `true`, from start to end, the mean of so many in a row.

    With `namespaces` only these of those that `runc spec` asks for.
    """
    with _Bundle(("true",), namespaces) as bundle:
        return mean_ms(lambda: spawn(bundle.runc("run", "--bundle", bundle.path, bundle.id)), times)


class RuncContainer:
    """A container that does nothing, to run commands in; a context manager."""

    def __init__(self) -> None:
        self._bundle = _Bundle(("sleep", "2147483647"))
        self._stack = ExitStack()

    def __enter__(self) -> RuncContainer:
        with ExitStack() as stack:
            bundle = stack.enter_context(self._bundle)
            # Not spawn(): the container would inherit, and hold, what this process writes to.
            argv = bundle.runc("run", "--detach", "--bundle", bundle.path, bundle.id)
            silent = subprocess.DEVNULL
            stack.callback(lambda: spawn(bundle.runc("delete", "--force", bundle.id)))
            subprocess.run(argv, check=True, stdin=silent, stdout=silent, stderr=silent)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def exec_true(self, times: int) -> float:
        """Milliseconds of `runc exec` of `true`."""
        return mean_ms(lambda: spawn(self._bundle.runc("exec", self._bundle.id, "true")), times)


class _Bundle:
    """A root of busybox and runc's own default configuration, in a temporary directory."""

    def __init__(self, argv: tuple[str, ...], namespaces: Sequence[str] | None = None) -> None:
        self._argv = argv
        self._namespaces = namespaces
        self._directory = tempfile.TemporaryDirectory(prefix="hostlab-bench-runc-")
        self.path = self._directory.name
        self.id = os.path.basename(self.path)

    def __enter__(self) -> _Bundle:
        root = Path(self.path, "rootfs")
        (root / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox, "asked for by runc_missing()"
        shutil.copy(busybox, root / "bin/busybox")
        for applet in ("true", "sleep", "sh"):
            (root / "bin" / applet).symlink_to("busybox")
        subprocess.run(("runc", "spec", "--bundle", self.path), check=True)
        file = Path(self.path, "config.json")
        config = json.loads(file.read_text(encoding="utf-8"))
        config["process"]["args"] = self._argv
        config["process"]["terminal"] = False
        if self._namespaces is not None:
            linux = config["linux"]
            linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] in self._namespaces]
            # It belongs to a UTS namespace.
            del config["hostname"]
        file.write_text(json.dumps(config), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def runc(self, *arguments: str) -> tuple[str, ...]:
        """A command line of runc that keeps its state in this bundle."""
        return ("runc", "--root", os.path.join(self.path, "state"), *arguments)

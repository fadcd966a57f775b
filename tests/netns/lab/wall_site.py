"""A lab to break out of, staged by a process of its own: once as root, once as a plain user.

The plain user is 65534 and cannot read what the caller's interpreter is made of, so he gets the
system's Python with copies of the packages. Requests to that process are JSON lines.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ATTEMPTS = Path(__file__).with_name("wall_attempts.py").read_text()
PLAIN_USER = 65534
SOURCE = Path(__file__).parents[3] / "src"
PACKAGES = ("msgspec", "yaml", "_yaml", "pyseccomp")
"""What hostlab's staging imports beside the standard library."""
DEADLINE_S = 60.0

STAGER = """
import base64, fcntl, json, os, pty, select, signal, sys, termios, threading
import hostlab.sync
from hostlab.errors import Problem

lab = hostlab.sync.Lab(sys.argv[1])


def run(request):
    node, options = lab[request["node"]], request.get("options", {})
    if request.get("tty"):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        done = node.attach(request["argv"], slave, into_node=True)
        typed = bool(select.select([slave], [], [], 0)[0])
        fcntl.ioctl(slave, termios.TIOCNOTTY)
        os.close(master)
        os.close(slave)
        return {"status": done.status, "out": text(done.stderr), "err": "", "typed": typed}
    done = node.execute(request["argv"], timeout_s=90.0, **options)
    return {"status": done.status, "out": text(done.stdout), "err": text(done.stderr)}


def text(data):
    return base64.b64encode(data).decode()


def both(request):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(run(request)))
    thread.start()
    count = 0
    while thread.is_alive():
        run(request["beside"])
        count += 1
    thread.join()
    return {**answers[0], "beside": count}


lab.up()
try:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "beside" in request:
                answer = both(request)
            elif "argv" in request:
                answer = run(request)
            else:
                answer = lab.status()
        except (Problem, OSError) as error:
            answer = {"problem": str(error)}
        print(json.dumps(answer), flush=True)
finally:
    lab.down()
"""


class Outcome:
    """What an attempt told: `through` when it got out, and what it saw on the way."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.through: bool = told["through"]
        self.seen: Any = told["seen"]
        self.errno: int | None = told["errno"]

    def __repr__(self) -> str:
        return f"Outcome(through={self.through}, errno={self.errno}, seen={self.seen!r})"


class Site:
    """A staged lab; `attempt` runs one function of wall_attempts.py in a node, as its root."""

    def __init__(self, directory: Path, text: str, *, is_root: bool) -> None:
        self.is_root = is_root
        self.directory = directory
        self.run_directory = directory / "run"
        self.run_directory.mkdir(mode=0o700)
        description = directory / "lab.yaml"
        description.write_text(text)
        environment = {
            "HOSTLAB_RUN": str(self.run_directory),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        python, options = sys.executable, {}
        if not is_root:
            python = "/usr/bin/python3"
            environment["PYTHONPATH"] = str(self._copied())
            os.chown(self.run_directory, PLAIN_USER, PLAIN_USER)
            options = {"user": PLAIN_USER, "group": PLAIN_USER, "extra_groups": []}
        self.stager = subprocess.Popen(
            [python, "-P", "-c", STAGER, str(description)],
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,  # type: ignore[call-overload]  # user and group only where they differ
        )

    def _copied(self) -> Path:
        packages = self.directory / "packages"
        shutil.copytree(SOURCE / "hostlab", packages / "hostlab")
        for name in PACKAGES:
            found = importlib.util.find_spec(name)
            assert found is not None
            assert found.origin is not None
            origin = Path(found.origin)
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, packages / name)
            else:
                shutil.copy(origin, packages)
        return packages

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request to the stager."""
        assert self.stager.stdin
        assert self.stager.stdout
        try:
            self.stager.stdin.write(json.dumps(request) + "\n")
            self.stager.stdin.flush()
            line = self.stager.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise AssertionError(
                f"the stager ended: {self.stager.communicate(timeout=DEADLINE_S)[1]}"
            )
        answer: dict[str, Any] = json.loads(line)
        assert "problem" not in answer, answer["problem"]
        return answer

    def run(self, node: str, *argv: str, **options: Any) -> str:
        """A command's standard output."""
        answer = self.ask(node=node, argv=argv, options=options)
        text = base64.b64decode(answer["out"]).decode(errors="replace")
        assert answer["status"] == 0, base64.b64decode(answer["err"]).decode(errors="replace")
        return text

    def attempt(self, node: str, name: str, /, **arguments: Any) -> Outcome:
        """Run one attempt and hear how it went."""
        return Outcome(json.loads(self.run(node, *_command(name, arguments))))

    def attempt_on_terminal(self, node: str, name: str, /, **arguments: Any) -> Outcome:
        """The same with a terminal of the caller's as standard input."""
        command = ("sh", "-c", 'exec "$@" >&2', "sh", *_command(name, arguments))
        answer = self.ask(node=node, argv=command, tty=True)
        outcome = Outcome(json.loads(base64.b64decode(answer["out"])))
        assert not answer["typed"], outcome
        return outcome

    def attempt_beside(
        self, node: str, name: str, beside: dict[str, Any], /, **arguments: Any
    ) -> tuple[Outcome, int]:
        """Run another command again and again meanwhile; how often is told too."""
        command = _command(name, arguments)
        answer = self.ask(node=node, argv=command, beside={"node": node, **beside})
        return Outcome(json.loads(base64.b64decode(answer["out"]))), answer["beside"]

    def close(self) -> None:
        """Take the lab down."""
        errors = self.stager.communicate(timeout=DEADLINE_S)[1]
        assert self.stager.returncode == 0, errors


def _command(name: str, arguments: dict[str, Any]) -> tuple[str, ...]:
    return ("python3", "-I", "-c", ATTEMPTS, name, json.dumps(arguments))

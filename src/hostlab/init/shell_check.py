"""Whether the shell would read a job's scripts: `sh -n`, which runs nothing.

A script that the shell cannot read fails when its job is started, and `init-checkconf` looked for
that beforehand. The shell's line is turned into the file's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping

from hostlab.errors import Place, SpecError, Unsupported
from hostlab.spec.job import Job, Step

SHELL = "/bin/sh"
DEADLINE_S = 10.0
"""For one script; reading the longest takes milliseconds."""
_MESSAGE = re.compile(r"^.*?: (?:line )?(?P<line>\d+): (?P<reason>.*)$", re.M)


def script_errors(job: Job, texts: Mapping[str, str]) -> tuple[SpecError, ...]:
    """What the shell says against each script of a job.

    `texts` are the contents of its files by path, for the places. Unsupported without a shell.
    """
    return tuple(
        error
        for stanza, script in _scripts(job)
        if (error := _check(job, stanza, script, texts)) is not None
    )


def _scripts(job: Job) -> Iterator[tuple[str, str]]:
    for step in Step:
        process = job.process(step)
        if process is not None and process.script is not None:
            yield ("script" if step is Step.MAIN else step.value), process.script


def _check(job: Job, stanza: str, script: str, texts: Mapping[str, str]) -> SpecError | None:
    try:
        done = subprocess.run(
            [SHELL, "-n"],
            input=script.encode(),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except FileNotFoundError:
        hint = "--no-scripts leaves the scripts unread"
        raise Unsupported("shell", f"there is no {SHELL} to read scripts with", hint=hint) from None
    except subprocess.TimeoutExpired:
        return SpecError("script", f"{job.name}: {stanza}: the shell read for {DEADLINE_S} s")
    if done.returncode == 0:
        return None
    return _error(job, stanza, done.stderr.decode(errors="replace"), texts)


def _error(job: Job, stanza: str, message: str, texts: Mapping[str, str]) -> SpecError:
    """The shell's first complaint, at the line of the file that it is about."""
    found = _MESSAGE.search(message)
    reason = found["reason"] if found else message.strip()
    said = next(each for each in reversed(job.said) if each.stanza == stanza)
    line = said.line + (int(found["line"]) if found else 0)
    lines = texts.get(said.file, "").split("\n")
    text = lines[line - 1].rstrip("\r") if line <= len(lines) else ""
    column = len(text) - len(text.lstrip()) + 1
    return SpecError("script", f"{stanza}: {reason}", where=Place(said.file, line, column, text))

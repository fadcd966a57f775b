"""The code of checks as one zip file that a host's own Python imports from memory.

What belongs in it is found by following the imports of `agent`. Each module is there as source and
as code: a Python of this version takes the code, any other one compiles the source.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import marshal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
START: Final = "hostlab.checks.agent"
PYTHON: Final = (3, 11)
"""The oldest that it runs on."""
_BOOT: Final = """\
import sys,os
if sys.version_info < {python}: print('{{"lacks": "Python %d.%d"}}' % {python}); sys.exit(3)
i = sys.stdin.buffer
d = i.read(int(i.readline()))
f = os.memfd_create('hostlab')
while d: d = d[os.write(f, d):]
sys.path.insert(0, '/proc/self/fd/%d' % f)
from hostlab.checks.agent import main
main()
"""
BOOT: Final = _BOOT.format(python=PYTHON)
"""A program for `python3 -c`: it reads a number of bytes, a newline and the zip file."""


@functools.cache
def bundle() -> bytes:
    """The zip file, and before it what `BOOT` expects."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, source in sorted(_files().items()):
            archive.writestr(path, source)
            archive.writestr(path + "c", _code(path, source))
    data = made.getvalue()
    return b"%d\n" % len(data) + data


def _code(path: str, source: str) -> bytes:
    """Code in a file of PEP 552's kind that nobody compares with its source."""
    code = compile(source, f"<hostlab>/{path}", "exec", dont_inherit=True, optimize=0)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    return head + importlib.util.source_hash(source.encode()) + marshal.dumps(code)


def _files() -> dict[str, str]:
    """Every file's path in the archive and its text."""
    files = {"msgspec.py": (_ROOT / "hostlab/checks/agent_msgspec.py").read_text()}
    waiting = [START]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _path(name)
        assert path is not None, name
        files[path] = (_ROOT / path).read_text()
        for parent in _parents(name):
            # What a package exports is not for the modules in it.
            files.setdefault(f"{parent.replace('.', '/')}/__init__.py", "")
        waiting += _imported(files[path])
    return files


def _path(name: str) -> str | None:
    """A module's file below the root; None when it is none."""
    path = name.replace(".", "/")
    for file in (f"{path}.py", f"{path}/__init__.py"):
        if (_ROOT / file).is_file():
            return file
    return None


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


def _imported(source: str) -> Iterator[str]:
    """The modules of ours that a module imports when it is run; those for types alone are not."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("hostlab."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hostlab"):
            assert node.module
            inner = [f"{node.module}.{each.name}" for each in node.names]
            modules = [name for name in inner if _path(name) is not None]
            yield from modules
            if len(modules) < len(inner):
                yield node.module

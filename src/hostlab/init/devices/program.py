"""`udisks2-stand-in` as a name that a node's jobs find, beside Upstart's."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Final

PROGRAM: Final = "udisks2-stand-in"
COMMAND: Final = ("-m", "hostlab.cli.main", "device", PROGRAM)


def install(directory: str) -> None:
    """Put the name into a directory of PATH; OSError when it cannot be written to.

    It runs on the interpreter and the hostlab that the node's init runs on.
    """
    packages = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")
    words = shlex.join((sys.executable or "python3", *COMMAND))
    text = (
        "#!/bin/sh\n# Answers for UDisks2 where there are no block devices.\n"
        f"export PYTHONPATH={shlex.quote(packages)}${{PYTHONPATH:+:$PYTHONPATH}}\nexec {words}\n"
    )
    path = f"{directory}/{PROGRAM}"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o755)
    os.rename(f"{path}.new", path)

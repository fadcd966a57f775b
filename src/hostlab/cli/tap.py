"""`hostlab tap`: a program of the machine gets a port of a segment."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from typing import Final

import click

from hostlab.cli.targets import only_lab
from hostlab.errors import Failed, UsageError

VARIABLE: Final = "HOSTLAB_TAP_FD"
PLACE: Final = "{fd}"


@click.command(
    "tap",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: hostlab tap lan/vm1 -- qemu-system-x86_64 -nic tap,fd={fd} disk.img",
)
@click.argument("tap")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def tap_command(tap: str, command: Sequence[str]) -> None:
    """Run COMMAND on this machine with an open descriptor of a tap: SEGMENT/NAME, LAB/SEGMENT/NAME.

    Each write to it is an Ethernet frame into the segment, each read one out of it. Its number
    stands for `{fd}` in COMMAND, and is HOSTLAB_TAP_FD in its environment. COMMAND's end is the
    cable's.
    """
    from hostlab.lab.driver import running
    from hostlab.lab.outlets import open_tap
    from hostlab.linux.entering import from_inside

    *lab, segment, name = tap.split("/") if tap.count("/") in (1, 2) else ("", "", "")
    if not segment:
        raise UsageError("usage", f"{tap!r} is not SEGMENT/NAME", hint="as `lan/vm1`")
    program = shutil.which(command[0])
    if program is None:
        raise UsageError("no-program", f"no program {command[0]!r}")
    with running(lab[0] if lab else only_lab()) as control:
        hub = control.call("status")["pid"]
        device = control.call("tap", segment=segment, name=name)["device"]
    try:
        _, (fd,) = from_inside(hub, ("user", "net"), lambda: (b"", [open_tap(device)]))
    except OSError as error:
        if error.errno == errno.EBUSY:
            hint = "it is a cable with one end: describe another tap"
            raise Failed("tap", f"tap {tap} is in use", hint=hint) from None
        raise
    os.set_inheritable(fd, True)  # noqa: FBT003  (has no name for it)
    words = [word.replace(PLACE, str(fd)) for word in command]
    os.execve(program, words, {**os.environ, VARIABLE: str(fd)})

"""What is broken and mended in a lab, told as events while it happens, on the events' own clock."""

from __future__ import annotations

from hostlab.faults import record
from hostlab.faults.record import Line, Phase
from hostlab.jobs.effects import EventFinished
from hostlab.lab.paths import LabDirectory, read_if_there
from hostlab.linux.inotify import IN_CREATE, IN_MODIFY, Inotify
from hostlab.spec.faults import node_of
from hostlab.spec.model import Fault

NAMES = {Phase.INJECTED: "fault-injected", Phase.CLEARED: "fault-cleared"}


class FaultFeed:
    """The journal of a lab from now on; readable when there is more of it."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.directory = LabDirectory.of(lab)
        self._inotify = Inotify()
        try:
            self._inotify.add(self.directory.path, IN_MODIFY | IN_CREATE)
        except OSError:
            self._inotify.close()
            raise
        self._faults: dict[int, Fault] = {}
        self._begun: dict[int, Phase] = {}
        self._offset = 0
        self.read()

    def fileno(self) -> int:
        """For whoever waits for it with others."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._inotify.close()

    def read(self) -> list[tuple[float, str, EventFinished]]:
        """(seconds of the epoch, node or segment, event) of what has come; never blocks."""
        self._inotify.discard()
        data = read_if_there(record.path_of(self.directory)) or b""
        whole = data.rfind(b"\n") + 1
        lines, self._offset = list(record.decode(data[self._offset : whole])), whole
        return [told for line in lines if (told := self._told(line)) is not None]

    def _told(self, line: Line) -> tuple[float, str, EventFinished] | None:
        if line.fault is not None:
            self._faults[line.number] = line.fault
        fault, before = self._faults.get(line.number), self._begun.get(line.number)
        self._begun[line.number] = line.phase
        # One that could not be done is cleared, and never was there.
        if fault is None or line.phase is Phase.BEGUN:
            return None
        if line.phase is Phase.CLEARED and before is Phase.BEGUN:
            return None
        environment = (
            ("KIND", fault.kind),
            ("ON", fault.on),
            *((name.upper(), value) for name, value in fault.options),
            ("NUMBER", str(line.number)),
        )
        event = EventFinished(serial=0, name=NAMES[line.phase], environment=environment)
        return line.time, node_of(fault), event

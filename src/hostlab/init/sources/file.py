"""Files as events: `file FILE=… EVENT=create|modify|delete [MATCH=…]`, and `path NAME=…`.

Told by the init's one instance of inotify. What was there when this supervisor was last awake is
noted for the next one, which tells the difference; so does a full queue of the kernel's.

As with Upstart's bridge an operand that waits for a file to be created is told at once of one that
is there when its job comes: for the job it has just appeared.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import SpecError
from hostlab.init.sources import Surroundings
from hostlab.init.sources.file_places import Place, Print, Spec
from hostlab.init.sources.notes import Notes
from hostlab.init.sources.path_conditions import PathConditions
from hostlab.init.watches import Watches
from hostlab.jobs import named_event
from hostlab.jobs.facts import Emit
from hostlab.jobs.file_operand import FILE, FileOperand, Happening, parse_file
from hostlab.spec.job import Match

KEPT: Final = "files"
"""What the holder calls the notes."""
_Known = dict[str, dict[str, Print]]


class _Everything(msgspec.Struct):
    """The first line of the notes."""

    operands: list[list[str]] = []
    """That have been told of what was there when they came."""
    known: _Known = {}


def open_source(surroundings: Surroundings) -> FileSource:
    """The source of files and paths."""
    return FileSource(surroundings)


class FileSource:
    """Watches what the jobs' operands name."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._own = Watches(surroundings.warn) if surroundings.watches is None else None
        watches = surroundings.watches or self._own
        assert watches is not None
        self._watches = watches
        self._operands: dict[tuple[str, ...], FileOperand] = {}
        self._said: dict[str, set[FileOperand]] = {}
        """The operands that have the same FILE."""
        self._wrong: set[tuple[str, ...]] = set()
        """Operands that were told to name no file."""
        self._places: dict[str, Place] = {}
        self._notes = Notes(surroundings, KEPT, self._everything)
        self._earlier = _read(self._notes.earlier())
        self._registered = {tuple(words) for words in self._earlier.operands}
        self._paths = PathConditions(surroundings, self._watches)

    def listen(self, operands: frozenset[Match]) -> None:
        """Watch what is new, forget what is gone; an operand that cannot be meant is told."""
        files = {match.arguments for match in operands if match.name == FILE}
        self._paths.listen(frozenset(match for match in operands if match.name == named_event.PATH))
        for words in self._operands.keys() - files:
            self._remove(words)
        self._wrong &= files
        new = sorted(files - self._operands.keys() - self._wrong)
        there: dict[str, Spec] = {}
        for words in new:
            spec = self._add(words)
            if spec is None or words in self._registered:
                continue
            if Happening.CREATE in self._operands[words].wanted:
                there[spec.said] = spec
        self._registered &= files
        self._registered |= self._operands.keys()
        for spec in there.values():
            self._tell_there(spec)
        if new or self._operands:
            self._notes.begin()

    def close(self) -> None:
        """Nobody waits for a file any more."""
        for place in self._places.values():
            place.close()
        self._places.clear()
        self._paths.close()
        self._notes.close()
        if self._own is not None:
            self._own.close()

    # Operands.

    def _add(self, words: tuple[str, ...]) -> Spec | None:
        try:
            operand = parse_file(words, self._surroundings.home)
        except SpecError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._surroundings.warn(f"file {' '.join(words)}: {error.message}{hint}")
            self._wrong.add(words)
            return None
        self._operands[words] = operand
        self._said.setdefault(operand.said, set()).add(operand)
        place = self._places.get(operand.directory)
        if place is None:
            place = Place(
                self._watches, operand.directory, self._happened, self._known,
                self._surroundings.warn,
            )  # fmt: skip
            self._places[operand.directory] = place
        spec = place.specs.get(operand.said)
        if spec is None:
            spec = Spec(operand)
            spec.wanted = self._wanted(operand.said)
            place.add(spec, before=self._earlier.known.pop(operand.said, None))
        spec.wanted = self._wanted(operand.said)
        return spec

    def _remove(self, words: tuple[str, ...]) -> None:
        operand = self._operands.pop(words)
        others = (each for each in self._operands.values() if each == operand)
        if next(others, None) is None:
            self._said[operand.said].discard(operand)
        place = self._places[operand.directory]
        wanted = self._wanted(operand.said)
        if wanted:
            place.specs[operand.said].wanted = wanted
            return
        del self._said[operand.said]
        place.remove(operand.said)
        if not place.specs:
            place.close()
            del self._places[operand.directory]

    def _wanted(self, said: str) -> frozenset[Happening]:
        return frozenset().union(*(operand.wanted for operand in self._said[said]))

    # Events.

    def _tell_there(self, spec: Spec) -> None:
        """What is there when somebody begins to wait for it has been created for them."""
        operand = spec.operand
        for path in tuple(spec.known):
            if not operand.is_directory or path == operand.directory:
                self._happened(spec, Happening.CREATE, path)

    def _happened(self, spec: Spec, happening: Happening, path: str) -> None:
        environment = [("FILE", spec.said), ("EVENT", happening.value)]
        operand = spec.operand
        if operand.is_pattern or (operand.is_directory and path != operand.directory):
            environment.append(("MATCH", path))
        self._surroundings.tell(Emit(name=FILE, environment=tuple(environment)))

    # What the next supervisor is to know.

    def _known(self, spec: Spec, path: str, now: Print | None) -> None:
        self._notes.note((spec.said, path, now))

    def _everything(self) -> tuple[_Everything, int]:
        known = {spec.said: spec.known for place in self._places.values()
                 for spec in place.specs.values()}  # fmt: skip
        # What was known of files whose jobs have not come yet is not forgotten.
        known = self._earlier.known | known
        count = sum(map(len, known.values()))
        return _Everything([list(words) for words in self._registered], known), count


def _read(lines: list[Any]) -> _Everything:
    """What an earlier supervisor noted."""
    if not lines:
        return _Everything()
    try:
        found = typed.convert(lines[0], _Everything)
        for line in lines[1:]:
            said, path, now = typed.convert(line, tuple[str, str, Print | None])
            paths = found.known.setdefault(said, {})
            if now is None:
                paths.pop(path, None)
            else:
                paths[path] = now
    except msgspec.ValidationError:
        # A later version's: what is there now is what is known.
        return _Everything()
    return found

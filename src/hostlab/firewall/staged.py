"""A ruleset staged: what a source becomes in a kernel, and everything there is to say of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence

import msgspec

from hostlab.errors import Failed, Place, SpecError, Unsupported
from hostlab.firewall import beside, file_changes, kernel, script, troubles
from hostlab.firewall.beside import Operation
from hostlab.firewall.listing import Chain, Where, chains
from hostlab.firewall.origin import Origin, origins
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.script import MAIN, TIME_LIMIT_S, Ran
from hostlab.firewall.source import Kind, Source
from hostlab.firewall.stage import StageNode
from hostlab.firewall.troubles import MACHINE_HINT, Blame, Trouble
from hostlab.lab.access import NodeConnection
from hostlab.linux import kconfig


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """What a source became."""

    source: str
    ruleset: Ruleset
    operations: tuple[Operation, ...] = ()
    """What it did, or is to do on the real machine, beside rules; in their order."""
    troubles: tuple[Trouble, ...] = ()
    origins: tuple[Origin, ...] = ()
    output: str = ""
    """What a script wrote to its standard output."""

    @property
    def exit_code(self) -> int:
        """0, 2 where the ruleset is at fault, 3 where this machine only lacks something."""
        blamed = {each.blame for each in self.troubles}
        if blamed & {Blame.RULESET, Blame.REFUSED}:
            return 2
        return 3 if Blame.KERNEL in blamed else 0

    def places(self) -> Where:
        """Where rules were written, as far as that is known: asked by chain and number from 1."""
        known = {
            (each.family, each.table, each.chain, each.is_legacy, each.number): each.place
            for each in self.origins
        }

        def where(chain: Chain, number: int) -> Place | None:
            key = (chain.family, chain.table, chain.name, chain.is_legacy, number)
            return known.get(key)

        return where

    def require(self) -> Ruleset:
        """The ruleset; Problem with the first trouble where it is not whole."""
        code = self.exit_code
        if code:
            blames = (Blame.KERNEL,) if code == 3 else (Blame.RULESET, Blame.REFUSED)
            first = next(each for each in self.troubles if each.blame in blames)
            kind = Unsupported if code == 3 else SpecError
            raise kind("ruleset", first.message, where=first.place, hint=first.hint or None)
        return self.ruleset


def stage_copy(node: StageNode, source: NodeConnection) -> Staged:
    """Make a copy of what a running node holds, which is not touched."""
    node.load(kernel.read(source.execute))
    return Staged(source=f"{source.lab}/{source.name}", ruleset=node.read())


def stage_source(
    node: StageNode,
    source: Source,
    *,
    arguments: Sequence[str] = (),
    time_limit_s: float = TIME_LIMIT_S,
) -> Staged:
    """Make a ruleset of a source in a node; what is wrong with it is in the answer, not raised.

    The node keeps the ruleset. It must hold none of somebody else's when this begins.
    """
    is_script = any(part.kind is Kind.SCRIPT for part in source.parts)
    before = beside.look(node.execute, node.pid) if is_script else None
    files = file_changes.watched(node.pid) if is_script else {}
    ran = script.run(node, source, arguments=arguments, time_limit_s=time_limit_s)
    operations: tuple[Operation, ...] = ()
    if before is not None:
        after = beside.look(node.execute, node.pid)
        found = beside.difference(before, after)
        operations = (*beside.with_places(found, _Mentions(ran)), *_for_the_machine(ran))
    told = [*troubles.of_calls(ran, kconfig.has), *troubles.of_notes(ran)]
    if is_script:
        told += _of_files(node, ran, files)
    told += [Trouble(blame=Blame.REMARK, message=text) for text in ran.remarks]
    told += troubles.of_left_out(source.left_out)
    try:
        ruleset = node.read()
    except Failed as failed:
        told.append(Trouble(blame=Blame.RULESET, message=failed.message))
        ruleset = Ruleset()
    return Staged(
        source=source.path,
        ruleset=ruleset,
        operations=operations,
        troubles=tuple(told),
        origins=_origins(ran, ruleset),
        output=ran.output,
    )


def _origins(ran: Ran, ruleset: Ruleset) -> tuple[Origin, ...]:
    def read(name: str, file: str) -> tuple[str, str] | None:
        beside_it = os.path.dirname(os.path.abspath(file)) if file else os.getcwd()
        for path in (name, os.path.join(beside_it, name), os.path.join("/etc", name)):
            if (text := ran.texts.text(path)) is not None:
                return path, text
        return None

    program = shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin:/bin")
    is_legacy = program is not None and "legacy" in os.path.realpath(program)
    return origins(ran.calls, chains(ruleset), ran.texts, iptables_is_legacy=is_legacy, read=read)


class _Mentions:
    """Finds the last command whose words, or whose line, have something in them."""

    def __init__(self, ran: Ran) -> None:
        self.ran = ran

    def __call__(self, clues: tuple[str, ...]) -> Place | None:
        for clue in clues:
            for call in reversed(self.ran.calls):
                written = call.written.writes if call.written is not None else ()
                if clue in call.text or any(clue in path for path in written):
                    return call.place
        for clue in clues:
            for call in reversed(self.ran.calls):
                if call.place is not None and clue in call.place.text:
                    return call.place
        return None


def _for_the_machine(ran: Ran) -> Iterator[Operation]:
    for words, call in troubles.with_calls(ran):
        if words[0] == MAIN and words[1:]:
            operation = beside.only_there(words[1:])
            place = call.place if call is not None else None
            yield msgspec.structs.replace(operation, place=place)


def _of_files(
    node: StageNode, ran: Ran, before: dict[str, file_changes.Stamp]
) -> Iterator[Trouble]:
    for path, call in file_changes.changes(node.pid, ran, before, os.getcwd()):
        hint = MACHINE_HINT
        if file_changes.PERSISTENT.match(path):
            hint = "`hostlab firewall persist` keeps what has been applied and confirmed"
        yield Trouble(
            blame=Blame.REFUSED,
            message=f"{path} was changed, which is neither rules nor network",
            place=call.place if call is not None else None,
            command=call.text if call is not None else "",
            hint=hint,
        )

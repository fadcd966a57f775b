"""`hostlab firewall ask`, `prove`, `coverage` and `mutate`: packets that are really sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.firewall_stage import (
    complete_source,
    running_node,
    stage_options,
    target_for,
)
from hostlab.cli.output import Progress, json_option, print_json
from hostlab.errors import SpecError, SpecErrors, UsageError

if TYPE_CHECKING:
    from hostlab.firewall.answer import Answer
    from hostlab.firewall.expectations import Expected
    from hostlab.firewall.mutants import Mutant, Written
    from hostlab.firewall.packet import Packet
    from hostlab.firewall.probing import Probed
    from hostlab.firewall.target import Target

_STDIN = "-"


RULESET = click.argument("ruleset", metavar="RULESET|NODE", shell_complete=complete_source)


def expect_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where it stands what is expected."""
    return click.option(
        "--expect",
        "expect",
        required=True,
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="What is expected, in YAML.",
    )(function)


def opened(
    ruleset: str, *, shell: str | None, time_limit: float, stdin: bytes = b"", **target: Any
) -> AbstractContextManager[Probed]:
    """A file, a directory or standard input staged; or a copy of a running node."""
    from hostlab.firewall.probing import probed
    from hostlab.firewall.source import read_source

    node = running_node(ruleset)
    chosen = target_for(node, **target)
    found = node or read_source(ruleset, stdin=stdin, shell=shell)
    return probed(found, chosen, time_limit_s=time_limit)


@click.command(
    "ask",
    epilog="Example: hostlab firewall ask rules.sh 'tcp 198.51.100.7 -> 203.0.113.10:22 in eth0'",
)
@RULESET
@click.argument("packets", nargs=-1, metavar="PACKET...")
@stage_options
@json_option
def ask_command(ruleset: str, packets: tuple[str, ...], *, as_json: bool, **options: Any) -> int:
    """Send PACKETs through RULESET in a stage, and tell what the kernel did with each.

    A PACKET is `PROTOCOL SOURCE[:PORT] -> DESTINATION[:PORT]`, then `in INTERFACE` where it
    arrives or `out` when the host itself sends it, then what is not usual: `established`,
    `related` or `invalid`, `type NAME`, `flags SA`, `uid N`, `length N`. Without one they are read
    from standard input, one a line. RULESET is anything that `stage` takes, or the name of a
    running node, whose ruleset and network are copied and which is not touched.
    """
    asked = _packets(ruleset, packets)
    stdin = sys.stdin.buffer.read() if ruleset == _STDIN else b""
    with opened(ruleset, stdin=stdin, **options) as found:
        answers = found.prober.ask(asked)
        _remark(found, len(asked))
    if as_json:
        print_json([answer_row(answer) for answer in answers])
        return 0
    from hostlab.firewall.probing import told

    for answer in answers:
        print("\n".join(told(answer)))
    return 0


def _remark(found: Probed, packets: int) -> None:
    """Say that an answer may depend on those before it."""
    rule = found.prober.rules.remembering() if packets > 1 else None
    if rule is not None:
        print(f"remark: what came before counts for a rule: {rule.text}", file=sys.stderr)
        print("  hint: ask one packet a call to have each as the first", file=sys.stderr)


def _packets(ruleset: str, given: Sequence[str]) -> list[Packet]:
    from hostlab.firewall.packet import parse_packet

    if given:
        return [parse_packet(text) for text in given]
    if ruleset == _STDIN:
        hint = "name the packets behind it"
        raise UsageError("usage", "standard input cannot be both ruleset and packets", hint=hint)
    found: list[Packet] = []
    errors: list[SpecError] = []
    for number, line in enumerate(sys.stdin, 1):
        text = line.rstrip("\n")
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            found.append(parse_packet(text, file="<stdin>", line=number))
        except SpecError as error:
            errors.append(error)
    if errors:
        raise SpecErrors(tuple(errors))
    return found


def answer_row(answer: Answer) -> dict[str, Any]:
    """An answer for programs."""
    from hostlab.firewall.packet import print_packet

    return {
        "packet": print_packet(answer.packet),
        "verdict": answer.verdict,
        "decided_by": answer.decided_by,
        "steps": answer.steps,
        "left_by": answer.left_by,
        "left_as": print_packet(answer.left_as) if answer.left_as is not None else None,
        "seen_by": answer.seen_by,
    }


def read_expect(path: str) -> str:
    """The text of an expectations file; UsageError where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UsageError("no-file", f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError("no-file", f"{path} is not UTF-8: {error.reason}") from None


def expected_in(path: str, target: Target) -> tuple[Expected, ...]:
    """What a file expects."""
    from hostlab.firewall.expectations import read_expectations

    return read_expectations(read_expect(path), file=path, target=target)


@click.command(
    "prove", epilog="Example: hostlab firewall prove rules.sh --expect expectations.yaml"
)
@RULESET
@expect_option
@stage_options
@json_option
def prove_command(ruleset: str, *, expect: str, as_json: bool, **options: Any) -> int:
    """Send every packet that FILE expects something of; exit 1 with each that ends otherwise.

    FILE has a list `expect:` of `accept: PACKET` (or drop, reject, lost, deny), each with what
    else is to be so: `nat: to 10.0.0.9:80`, `by: TEXT` of the rule that decides, `leaves: eth1`.
    With `zones: {wan: {interface: eth0, hosts: 198.51.100.7}}` it may also say
    `wan -> host: {accept: [tcp/22, icmp], else: drop}`.
    """
    from hostlab.firewall.expectations import failure
    from hostlab.firewall.packet import print_packet
    from hostlab.firewall.probing import told_step

    stdin = sys.stdin.buffer.read() if ruleset == _STDIN else b""
    with opened(ruleset, stdin=stdin, **options) as found:
        expected = expected_in(expect, found.target)
        answers = found.prober.ask(each.packet for each in expected)
        _remark(found, len(expected))
    pairs = [(each, answer, failure(each, answer)) for each, answer in zip(
        expected, answers, strict=True)]  # fmt: skip
    failed = [each for each in pairs if each[2]]
    if as_json:
        print_json(
            [
                {"place": each.place, "expected": each.end, "failure": wrong} | answer_row(answer)
                for each, answer, wrong in pairs
            ]
        )
        return 1 if failed else 0
    for each, answer, wrong in failed:
        print(f"{each.place}: {wrong}")
        print(f"    {print_packet(each.packet)}")
        if answer.decided_by is not None:
            print(f"    by {told_step(answer.decided_by)}")
    print(f"{len(pairs) - len(failed)} of {len(pairs)} packets end as expected")
    return 1 if failed else 0


def _fail_under(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--fail-under",
        type=click.FloatRange(0, 100),
        default=0.0,
        metavar="PERCENT",
        help="Exit 1 below this score.",
    )(function)


@click.command(
    "coverage", epilog="Example: hostlab firewall coverage rules.sh --expect expectations.yaml"
)
@RULESET
@expect_option
@_fail_under
@stage_options
@json_option
def coverage_command(
    ruleset: str, *, expect: str, fail_under: float, as_json: bool, **options: Any
) -> int:
    """List the rules of RULESET that no packet of FILE passes: nothing is proved of them."""
    from hostlab.firewall.mutants import rules_of
    from hostlab.firewall.testing import coverage

    stdin = sys.stdin.buffer.read() if ruleset == _STDIN else b""
    with opened(ruleset, stdin=stdin, **options) as found:
        expected = expected_in(expect, found.target)
        answers = found.prober.ask(each.packet for each in expected)
    rules = rules_of(found.staged.ruleset)
    seen = coverage(rules, answers)
    score = 100 * len(seen.reached) / len(rules) if rules else 100.0
    if as_json:
        print_json({"score": score, "missed": [_rule_row(found, each) for each in seen.missed]})
    else:
        for each in seen.missed:
            print(_told_rule(found, each))
        print(f"{len(seen.reached)} of {len(rules)} rules reached, {score:.0f} %")
    return 1 if score < fail_under else 0


def _rule_row(found: Probed, rule: Written) -> dict[str, Any]:
    place = found.places.get(rule.key)
    return {**rule.key._asdict(), "rule": rule.text, "place": place}


def _told_rule(found: Probed, rule: Written | Mutant) -> str:
    key = rule.key
    place = found.places.get(key)
    where = f"  # {place.file}:{place.line}" if place is not None else ""
    text = rule.text if isinstance(rule, tuple) else rule.rule
    return f"{key.family} {key.table} {key.chain} {key.number}: {text}{where}"


@click.command(
    "mutate", epilog="Example: hostlab firewall mutate rules.sh --expect expectations.yaml"
)
@RULESET
@expect_option
@_fail_under
@stage_options
@json_option
def mutate_command(
    ruleset: str, *, expect: str, fail_under: float, as_json: bool, **options: Any
) -> int:
    """Take each rule of RULESET away, swap it with the next, turn it round: does FILE notice?

    Lists each change that no expectation notices, with one that would, where a packet was found
    that tells; without, the change may make no difference at all.
    """
    from hostlab.firewall.testing import mutate

    stdin = sys.stdin.buffer.read() if ruleset == _STDIN else b""
    progress = Progress("changes")
    with opened(ruleset, stdin=stdin, **options) as found:
        tested = mutate(found, expected_in(expect, found.target), progress)
    progress.end()
    score = 100 * tested.score
    if as_json:
        rows = [
            {
                "change": each.mutant.change,
                **each.mutant.key._asdict(),
                "rule": each.mutant.rule,
                "suggestion": each.suggestion or None,
            }
            for each in tested.survivors
        ]
        print_json({"score": score, "tried": tested.tried, "survivors": rows})
    else:
        for each in tested.survivors:
            print(f"{each.mutant.change:<6} {_told_rule(found, each.mutant)}")
            print(f"    {each.suggestion or 'no packet was found that this makes a difference to'}")
        print(f"{tested.noticed} of {tested.tried} changes noticed, {score:.0f} %")
    return 1 if score < fail_under else 0

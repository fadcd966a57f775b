"""Run in a node that plays the machine: put the ruleset live that standard input says.

What `hostlab firewall apply --live` does behind its stage, so that tests of the way back need none.
"""

from __future__ import annotations

import sys

import msgspec

from hostlab.errors import Problem
from hostlab.firewall import apply
from hostlab.firewall.beside import Operation
from hostlab.firewall.change import ChangeDirectory
from hostlab.firewall.here import run_here
from hostlab.firewall.ruleset import Ruleset


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be applied, and how it is confirmed."""

    wanted: Ruleset
    within_s: float
    check: str | None = None
    operations: tuple[Operation, ...] = ()


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    place = ChangeDirectory.of_machine()
    place.make()
    asked = apply.Asked(within_s=order.within_s, check=order.check)
    try:
        with place.operator():
            tell(apply.recover(place))
            apply.must_be_free(place)
            planned = apply.plan(place, order.wanted, run_here, order.operations)
            apply.apply(place, "a test", planned, asked, tell)
    except Problem as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(problem.exit_code)
    tell("confirmed")


def tell(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Judgements to write down: verdicts of a few hosts, some with text that means harm."""

from __future__ import annotations

from hostlab.checks.run import Excerpt, Host, Run
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.spec.model import Place

HARM = "</script><script>alert('&\"\\')</script>\x00\x1b[31m\u202e\u2028#"
OUTCOMES = {
    "h": Outcome.HOLDS,
    "f": Outcome.FAILS,
    "u": Outcome.UNKNOWN,
    "s": Outcome.SKIPPED,
}


def verdict(node: str, check: str, outcome: str = "h", text: str = "seen") -> Verdict:
    return Verdict(
        node=node,
        kind=check.partition(":")[0],
        check=check,
        outcome=OUTCOMES[outcome],
        expected=text,
        seen=text,
        within_s=5.0,
        took_s=0.25,
        place=Place(file="lab.yaml", line=2, column=3),
        log=() if outcome == "h" else (text,),
        repeat=f"repeat {text}",
    )


def a_run(*rows: Verdict, began: float = 1.0, lab: str = "shop") -> Run:
    names = dict.fromkeys(row.node for row in rows)
    return Run(
        lab=lab,
        began=began,
        hosts=tuple(Host(name=name, roles=(name.rstrip("0123456789"),)) for name in names),
        report=Report(rows=rows, took_s=1.5),
        excerpts=(Excerpt(file="lab.yaml", first=1, lines=("checks:", f"  - {HARM}", "")),),
    )

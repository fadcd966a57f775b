"""Expectations about nodes, judged: the verdict type, the probes, and what can be expected."""

from hostlab.checks.access import CommandResult, JobStatus, NodeAccess
from hostlab.checks.base import Expectation
from hostlab.checks.expectations import KINDS, expectation
from hostlab.checks.judge import judge
from hostlab.checks.verdict import Outcome, Report, Verdict
from hostlab.jobs.report import JobState

__all__ = [
    "KINDS",
    "CommandResult",
    "Expectation",
    "JobState",
    "JobStatus",
    "NodeAccess",
    "Outcome",
    "Report",
    "Verdict",
    "expectation",
    "judge",
]

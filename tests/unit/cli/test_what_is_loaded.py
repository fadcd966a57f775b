"""Commands start in the time that their modules take to load: what most of them can do without."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "http.client",
    "hostlab.checks.expectations",
    "hostlab.faults.injecting",
    "hostlab.jobs.engine",
    "hostlab.lab.joining",
    "hostlab.lab.outside",
    "hostlab.spec.loading",
    "ssl",
    "yaml",
}


@pytest.mark.parametrize(
    "modules",
    [
        "hostlab.api, hostlab.cli.inside, hostlab.cli.session",
        "hostlab.api, hostlab.cli.labs, hostlab.cli.standing",
        "hostlab.cli.job, hostlab.cli.joblogs",
    ],
)
def test_what_looks_into_a_lab_loads_nothing_that_reads_or_judges_one(modules: str) -> None:
    program = f"import sys, {modules}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert sorted(HEAVY.intersection(done.stdout.decode().split())) == []


def test_the_values_of_a_hub_are_structs() -> None:
    """A dataclass is made by compiling its methods, which takes twenty times as long."""
    program = """
import sys, hostlab.lab.hub
modules = [module for name, module in sys.modules.items() if name.startswith("hostlab")]
classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
print(*(each.__qualname__ for each in classes if hasattr(each, "__dataclass_fields__")))
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    # A member that is not compared: no Struct has that.
    assert done.stdout.decode().split() == ["Asker"]

"""What is told when nft refuses a node's firewall."""

from __future__ import annotations

import pytest

from hostlab.errors import Place
from hostlab.lab.firewall import refused
from hostlab.plan.firewall import Line

pytestmark = pytest.mark.unit


def test_a_refusal_names_the_line_of_the_description() -> None:
    lines = (Line("table inet hostlab {"), Line("\tset s { }", Place("lab.yaml", 7, 9)))
    said = "/dev/stdin:2:8-8: Error: set definition does not specify key\n\tset s { }\n\t    ^\n"
    problem = refused("r", lines, said)
    assert problem.message == (
        "node r: lab.yaml:7:9: its firewall is refused: set definition does not specify key"
    )
    assert problem.hint == "for nft it was `set s { }`"
    assert "wmem_max" in str(refused("r", lines, "netlink: Error: … Message too long"))
    assert refused("r", lines, "nft: cannot open").message == (
        "node r: its firewall is refused: nft: cannot open"
    )

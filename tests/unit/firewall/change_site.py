"""A change of a firewall, made up."""

from __future__ import annotations

import os
from typing import Any

from hostlab.firewall.change import FirewallChange, Maker, Phase, boottime
from hostlab.firewall.ruleset import Ruleset
from hostlab.linux.procfs import boot_id, start_time

OLD = Ruleset(nft="table inet old {\n}\n")
NEW = Ruleset(nft="table inet new {\n}\n")


def a_change(**fields: Any) -> FirewallChange:
    """One that this process has loaded, and that has a minute left."""
    usual: dict[str, Any] = {
        "phase": Phase.LOADED,
        "source": "rules",
        "maker": Maker(pid=os.getpid(), started=start_time(os.getpid()) or "", user="root"),
        "began": 1.0,
        "deadline": boottime() + 60,
        "within_s": 60.0,
        "loaded": boottime(),
        "boot": boot_id(),
        "before": OLD,
        "wanted": NEW,
    }
    return FirewallChange(**(usual | fields))

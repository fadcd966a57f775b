"""A node's description that changes while the change before is still being carried out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hostlab.spec.job import Job
from tests.netns.lab.lab_site import described, site

pytestmark = pytest.mark.netns
DESCRIPTION = """
nodes:
  a:
    jobs:
      slow:
        exec: sleep 1000
        post_stop: {script: "mkfifo /tmp/stops; cat /tmp/stops"}
"""


def test_the_last_description_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first change waits for a job that stops slowly; the second comes meanwhile."""
    with site(tmp_path, monkeypatch) as place:
        node = place.up(DESCRIPTION)["a"]
        node.wait_settled()
        file = Path(node.directory) / "node.json"
        (plain,) = described(place.name, DESCRIPTION).nodes

        def describe(*jobs: Job) -> None:
            changed = msgspec.structs.replace(plain, jobs=jobs)
            file.write_bytes(msgspec.json.encode(changed))

        with node.control() as first, node.control() as second, node.monitor() as events:
            describe(Job(name="x", argv=("sleep", "1")))
            one = first.send("reload")
            while "stopping" not in str(events.receive()):
                pass
            describe(*plain.jobs, Job(name="x", argv=("sleep", "2")))
            two = second.send("reload")
            ping = second.send("ping")
            while second.receive()["id"] != ping:
                two = 0
            node.succeed("until [ -p /tmp/stops ]; do :; done; echo > /tmp/stops")
            assert first.receive()["id"] == one
            assert not two or second.receive()["id"] == two
        found = {job.name: job.argv for job in node.configuration()}
    assert found == {"slow": (), "x": ("sleep", "2")}

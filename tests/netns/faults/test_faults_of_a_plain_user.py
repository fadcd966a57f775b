"""A plain user breaks and mends his own lab; what needs a cgroup he is told that he has not."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.faults.fault_site import LAB
from tests.netns.lab import wall_site
from tests.netns.lab.lab_site import DEADLINE_S, probe

pytestmark = pytest.mark.netns

WORDS = (
    "link-down r1:eth1",
    "one-way-loss s:eth0",
    "partition right apart=s",
    "node-cut-off s",
    "node-frozen s",
    "job-stopped s/echo",
    "descriptors-exhausted s/echo",
    "disk-full s",
    "read-only s",
    "dns-slow c",
    "dns-wrong c name=s",
    "port-filtered s port=7000",
    "route-withdrawn c to=default",
    "job-down s/echo",
    "job-killed s/echo",
    "node-killed s",
)
PROGRAM = """
import json, sys
from hostlab.checks.requests import How, Probe
from hostlab.errors import Unsupported
from hostlab.faults import injecting, witness
from hostlab.faults.measuring import measure
from hostlab.faults.site import Site
from hostlab.observe.snapshot import differences
from hostlab.spec.faults import parse
from hostlab.spec.model import TimedFault
from hostlab.sync import Node

site = Site.of(sys.argv[1])
for name in site.nodes:
    Node(site.lab.name, name, site.pid(name)).wait_settled()
before, found = witness.take(site), {}
for words in sys.argv[2:]:
    try:
        injecting.inject(site, parse(words.split(), site.lab))
    except Unsupported as lacking:
        found[words] = [lacking.code]
        continue
    during = witness.take(site)
    injecting.clear(site)
    site.look()
    for name in site.nodes:
        Node(site.lab.name, name, site.pid(name)).wait_settled()
    changed = differences(before, during)
    found[words] = [bool(changed), [str(each) for each in differences(before, witness.take(site))]]
(cut,) = parse(["node-cut-off", "s"], site.lab)
probe, timeline = Probe(how=How.PING, target="s"), [TimedFault(at_s=0, fault=cut, for_s=0.2)]
(outage,) = measure(site, timeline, probe, node="c", settle_s=0.3)
found["outage"] = [outage.recovered and outage.failed > 0, []]
print(json.dumps(found))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may look into; pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="hostlab-faults-", dir="/var/tmp") as directory:
        found = Path(directory)
        found.chmod(0o755)
        yield found


def test_a_plain_users_lab(place: Path) -> None:
    probe()
    if os.geteuid() != 0:
        pytest.skip("here: only root can be another user")
    tried = subprocess.run(
        ("unshare", "--user", "--mount", "true"),
        user=wall_site.PLAIN_USER,
        group=wall_site.PLAIN_USER,
        extra_groups=[],
        capture_output=True,
        cwd="/",
        check=False,
    )
    if tried.returncode:
        pytest.skip("here: a plain user may make no namespaces")
    site = wall_site.Site(place, f"name: user-{os.getpid()}\n{LAB}", is_root=False)
    try:
        assert site.ask(status=True)
        done = subprocess.run(
            ["/usr/bin/python3", "-P", "-c", PROGRAM, f"user-{os.getpid()}", *WORDS],
            env={
                "HOSTLAB_RUN": str(site.run_directory),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(place / "packages"),
            },
            cwd="/",
            user=wall_site.PLAIN_USER,
            group=wall_site.PLAIN_USER,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        found = json.loads(done.stdout)
    finally:
        site.close()
    assert set(found) == {*WORDS, "outage"}
    assert found.pop("node-frozen s") == ["cgroup"]
    assert {words: told for words, told in found.items() if told != [True, []]} == {}

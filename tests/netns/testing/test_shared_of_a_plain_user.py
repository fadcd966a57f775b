"""A plain user's lab is waited for and set back, as root's is."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.lab import wall_site
from tests.netns.lab.lab_site import DEADLINE_S, probe

pytestmark = pytest.mark.netns

LAB = """
segments: [lan]
nodes:
  web:
    jobs: {www: python3 -m http.server 80}
  client:
"""
PROGRAM = """
import json, sys
from hostlab.testing.shared import SharedLab
from hostlab.lab.description import staged

shared = SharedLab(staged(sys.argv[1]))
shared.mark()
web, client = shared.lab["web"], shared.lab["client"]
web.wait_for_open_port(80)
found = [shared.reset()]
web.job("www", "stop")
web.wait_for_closed_port(80)
found.append(shared.reset())
client.execute("(echo late > /tmp/late) & sleep 1000 >/dev/null 2>&1 &")
client.wait_for_file("/tmp/late")
found.append(shared.reset())
found.append(shared.lab["client"].execute("test -e /tmp/late").status)
found.append(shared.reset())
print(json.dumps(found))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may look into; pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="hostlab-shared-", dir="/var/tmp") as directory:
        found = Path(directory)
        found.chmod(0o755)
        yield found


def test_it_is_set_back(place: Path) -> None:
    probe()
    if os.geteuid() != 0:
        pytest.skip("here: only root can be another user")
    user = {"user": wall_site.PLAIN_USER, "group": wall_site.PLAIN_USER, "extra_groups": []}
    tried = subprocess.run(["unshare", "--user", "--mount", "true"], check=False, cwd="/", **user)  # type: ignore[call-overload]  # `user` is of several kinds
    if tried.returncode:
        pytest.skip("here: a plain user may make no namespaces")
    name = f"shared-{os.getpid()}"
    site = wall_site.Site(place, f"name: {name}\n{LAB}", is_root=False)
    try:
        assert site.ask(status=True)
        done = subprocess.run(  # type: ignore[call-overload]  # `user` is of several kinds
            ["/usr/bin/python3", "-P", "-c", PROGRAM, name],
            env={
                "HOSTLAB_RUN": str(site.run_directory),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(place / "packages"),
            },
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * DEADLINE_S,
            check=False,
            **user,
        )
        assert done.returncode == 0, done.stderr.decode()
    finally:
        site.close()
    untouched, stopped, changed, gone, again = json.loads(done.stdout)
    assert (untouched, again) == ([], [])
    assert stopped == ["web: job www: start"]
    assert len(changed) == 1
    assert changed[0].startswith("client: staged anew: ")
    assert gone == 1

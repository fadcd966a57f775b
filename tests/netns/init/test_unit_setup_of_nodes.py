"""What is done before a node's first unit starts: sysusers.d, tmpfiles.d, generators."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.units.setup import Setup
from hostlab.spec.job import Command, Job
from hostlab.sync import Node
from tests.netns.init.engine_site import world
from tests.netns.init.test_systemctl import Ran
from tests.netns.init.test_units_in_nodes import states
from tests.netns.init.test_units_run import reap
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = pytest.mark.netns

LAB = """
nodes:
  box:
    units: [made, user]
    files:
      /usr/lib/systemd/system-generators/made:
        mode: '0755'
        content: |
          #!/bin/sh
          echo "to $1 $2 $3 of $SYSTEMD_SCOPE" >&2
          printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > "$1/made.service"
          printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > "$3/user.service"
          mkdir "$1/made.service.wants"
          ln -s /etc/systemd/system/also.service "$1/made.service.wants/"
      /usr/lib/systemd/system-generators/fails: {mode: '0755', content: "#!/bin/sh\\nexit 3\\n"}
      /usr/lib/systemd/system-generators/systemd-fstab-generator:
        mode: '0755'
        content: |
          #!/bin/sh
          touch /run/should-not
      /usr/lib/sysusers.d/mine.conf: |
        u mine - "Somebody" /run/mine
      /usr/lib/tmpfiles.d/mine.conf: |
        d /run/mine 0750 mine mine 10d
        f /run/mine/%H 0640 mine - - text
        L /run/mine/link - - - - /run/mine/%H
        z /etc/some*where 0600 - - -
      /etc/some-where: {mode: '0644', content: x}
      /etc/systemd/system/also.service: |
        [Service]
        ExecStart=/bin/sleep 1001
      /etc/systemd/system/user.service: |
        [Service]
        User=mine
        ExecStart=/bin/sh -c 'cat /run/mine/link; exec sleep 1002'
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    for program in ("systemd-tmpfiles", "systemd-sysusers"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: `make dev` as root installs it")
    with site(tmp_path, monkeypatch) as place:
        yield staged(place)


def staged(place: Site) -> Node:
    found = place.up(LAB).nodes()["box"]
    found.wait_settled(within_s=60)
    return found


def test_users_files_and_generated_units_are_there(node: Node) -> None:
    found = states(node)
    assert found["made.service"] == found["also.service"] == found["user.service"] == "running"
    wait_until(lambda: node.log_tail("user.service") == ("text",), "the early unit file counts")
    assert Ran(node, "stat -c '%a %U' /run/mine /etc/some-where").out == "750 mine\n600 root\n"
    said = "to /run/systemd/generator /run/systemd/generator.early /run/systemd/generator.late"
    wanted = (f"{said} of system",)
    wait_until(lambda: node.log_tail("unit-generators") == wanted, "what the generator says")
    assert Ran(node, "systemctl is-enabled made; test -e /run/should-not").out == "generated\n"
    node.succeed("rm /usr/lib/systemd/system-generators/made; systemctl stop made")
    node.succeed("systemctl daemon-reload")
    assert Ran(node, "systemctl start made").status == 5


def test_a_generator_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    async def test() -> tuple[str, ...]:
        async with world(tmp_path) as place:
            jobs = place.jobs()
            setup = Setup(jobs, lambda level, text: place.said.append(text), path="/bin")
            sleeping = Job(
                name="sleeps",
                description="sleepers",
                commands=(Command(argv=("/bin/sleep", "1000")),),
                task=True,
            )
            await setup.run(sleeping, within_s=0.1)
            while jobs.engine.instance("sleeps") is not None:
                await asyncio.sleep(0)
                reap(jobs)
            return tuple(place.said)

    assert "sleepers: not done in 0.1 s" in asyncio.run(test())

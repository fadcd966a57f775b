"""A unit whose reload ends its main process and starts another one, as FRR's does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.sync import Node
from tests.netns.init.daemon_site import cgroup_of, processes
from tests.netns.init.test_readiness_in_nodes import alive, supervisor
from tests.netns.lab.lab_site import site, wait_until

pytestmark = pytest.mark.netns

UNIT = "d.service"
LAB = """
nodes:
  box:
    units: [d.service]
    files:
      /srv/start: {mode: '0755', content: "#!/bin/sh\\nsetsid sleep 1001 & echo $! > /run/d.pid\\n"}
      /srv/reload:
        mode: '0755'
        content: |
          #!/bin/sh
          read old < /run/d.pid
          kill $old
          while kill -0 $old 2>/dev/null; do :; done
          echo x > /run/gone
          read what < /run/go
          test $what = replace || exit 1
          /srv/start
      /etc/systemd/system/d.service:
        content: |
          [Service]
          Type=forking
          PIDFile=/run/d.pid
          SuccessExitStatus=TERM
          ExecStart=/srv/start
          ExecReload=/srv/reload
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    with site(tmp_path, monkeypatch) as place:
        node = place.up(LAB)["box"]
        node.wait_settled(within_s=60)
        node.succeed("mkfifo /run/gone /run/go")
        yield node


class Reload:
    """One that is under way: its main process is gone, and it waits to be told what to do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._failed: list[Failed] = []
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        node.succeed("cat /run/gone", timeout_s=60)

    def _ask(self) -> None:
        try:
            with self._node.control() as control:
                control.call("job", name=UNIT, action="reload")
        except (Failed, OSError) as error:
            self._failed += [error] if isinstance(error, Failed) else []

    def end(self, what: str) -> list[Failed]:
        """Tell it; how the request ended."""
        self._node.succeed(f"echo {what} > /run/go", timeout_s=60)
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._failed


def main_of(node: Node) -> int | None:
    return node.jobs()[UNIT].pid


def test_the_process_that_a_reload_starts_is_the_main_one(box: Node) -> None:
    first = main_of(box)
    group = cgroup_of(box, first or 0)
    reload = Reload(box)
    assert box.jobs()[UNIT].state == "running"
    assert reload.end("replace") == []
    second = main_of(box)
    assert second not in (None, first)
    assert alive(box, second)
    with box.control() as control:
        control.call("job", name=UNIT, action="stop")
    assert processes(group) == set()


def test_the_next_supervisor_waits_for_it_too(box: Node) -> None:
    first = main_of(box)
    reload = Reload(box)
    os.kill(supervisor(box), signal.SIGKILL)
    assert box.jobs()[UNIT].state == "running"
    reload.end("replace")
    wait_until(lambda: main_of(box) not in (None, first), "another main process")
    assert box.jobs()[UNIT].state == "running"


def test_a_reload_that_leaves_nothing_has_failed_and_the_service_has_ended(box: Node) -> None:
    (failed,) = Reload(box).end("nothing")
    assert "failed to reload" in str(failed)
    wait_until(lambda: box.jobs()[UNIT].state != "running", "the end of the service")

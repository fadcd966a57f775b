"""The examples that are shipped: staged as they are, and every one of their checks holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.sync import Lab
from tests.netns.daemons.unit_site import needs_units
from tests.netns.lab.lab_site import assert_holds, free_port, probe, wait_until

pytestmark = pytest.mark.netns

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    copied = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copied)
    return copied


def own(path: Path) -> Path:
    """The example under a name and published ports that no other run has."""
    text = path.read_text().replace(f"name: {path.stem}", f"name: {path.stem}-{os.getpid()}")
    for port in ("8080", "8090", "8091"):
        text = text.replace(port, str(free_port()))
    path.write_text(text.replace("machine: 10.2.0.254", ""))
    return path


def staged(path: Path) -> Lab:
    return Lab(own(path))


@pytest.mark.parametrize("name", ["hello", "shop", "sleeper", "firewall"])
def test_an_example_holds(examples: Path, name: str) -> None:
    with staged(examples / f"{name}.yaml") as lab:
        assert_holds(lab)


def test_debians_daemons_hold(examples: Path) -> None:
    needs_units("bird.service", "frr.service", "postfix.service", "dovecot.socket")
    with staged(examples / "daemons.yaml") as lab:
        assert_holds(lab)


def test_a_market_with_an_oci_bundle_holds(examples: Path) -> None:
    if shutil.which("runc") is None or shutil.which("busybox") is None:
        pytest.skip("no runc or busybox: apt-get install runc busybox-static")
    make = [str(examples / "make-bundle.sh"), str(examples / "bundle")]
    subprocess.run(make, check=True, capture_output=True)
    with staged(examples / "market.yaml") as lab:
        assert_holds(lab)
        published = [row for row in lab.status()["published"] if row["protocol"] == "tcp"]
        port = published[0]["port"]
        for host in ("127.0.0.1", "localhost", "[::1]"):
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=60) as page:
                assert page.read() == b"fresh\n"
        lab["baker"].job("oven", "stop")
        assert not lab.check().ok, "the checks hold without a server"
    with pytest.raises(UsageError):
        lab.status()


def test_web_servers_sleep_until_asked_and_fall_asleep_again(examples: Path) -> None:
    with staged(examples / "sleeper.yaml") as lab:
        servers = [(lab["page"], "web"), (lab["old"], "web"), (lab["old"], "web-proxy")]

        def states() -> set[str]:
            found = set()
            for node, name in servers:
                found |= {row["state"] for row in node.job_table() if row["name"] == name}
            return found

        assert states() == {"waiting"}
        for _ in range(2):
            assert_holds(lab)
            wait_until(lambda: states() == {"stopped"}, "all of them sleep again")
        say = (
            "import socket; c = socket.create_connection(('old', 7000), 60); c.sendall(b'word\\n');"
        )
        assert lab["reader"].succeed(f'python3 -c "{say} print(c.recv(100))"') == "b'WORD\\n'\n"
        diary = Path(lab["old"].log_path("diary")).parent
        wait_until(lambda: any(diary.glob("diary-*.log")), "the diary says who has gone")


def test_a_stick_is_copied(examples: Path) -> None:
    with staged(examples / "stick.yaml") as lab:
        desk = lab["desk"]
        desk.fail("test -e /srv/PHOTOS")
        desk.plug(examples / "devices" / "stick.yaml")
        assert_holds(lab)
        desk.unplug("stick")
        gone = "/srv/QEMU_USB_HARDDRIVE has gone"
        wait_until(lambda: not desk.execute(["test", "-e", gone]).status, "a farewell")

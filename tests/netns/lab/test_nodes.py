"""What a description gives a node, seen from inside it and from its neighbours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from hostlab.errors import Problem
from hostlab.sync import Lab
from tests.netns.lab.lab_site import Site, wait_until

pytestmark = pytest.mark.netns

PAIR = """
segments: {lan: [10.7.0.0/24, "fd07::/64"]}
nodes:
  web:
    interfaces: {eth0: {segment: lan, addresses: [10.7.0.2/24]}}
    jobs: {web: python3 -m http.server 80}
  other: {}
"""


def test_a_volume_is_shared_and_may_be_read_only(place: Site) -> None:
    lab = place.up("nodes: {one: {volumes: [v:/srv/v]}, two: {volumes: ['v:/mnt/v:ro']}}")
    lab["one"].succeed("echo hello > /srv/v/file")
    assert lab["two"].succeed("cat /mnt/v/file") == "hello\n"
    assert "Read-only" in lab["two"].shell("echo x > /mnt/v/file").stderr.decode()


def test_files_have_their_mode_owner_and_capabilities(place: Site) -> None:
    lab = place.up(
        """
nodes:
  one:
    users: [alice]
    files:
      /opt/secret: {content: x, mode: "0400", owner: alice}
      /opt/deep/er/tool: {content: "#!/bin/sh", mode: "4755", capabilities: cap_net_raw+ep}
"""
    )
    shown = lab["one"].succeed("stat -c '%a %U %s' /opt/secret /opt/deep/er/tool")
    assert shown == "400 alice 1\n4755 root 9\n"
    names = "import os; print(os.getxattr('/opt/deep/er/tool', 'security.capability')[4:8].hex())"
    assert lab["one"].execute(["python3", "-c", names]).stdout == b"00200000\n"
    assert lab["one"].shell("id -un; pwd", user="alice", directory="/opt").stdout == (
        b"alice\n/opt\n"
    )
    assert lab["one"].shell("cat /opt/secret", user="nobody").status


@pytest.mark.parametrize("kind", ["net", "ipc", "uts", "pid"])
def test_a_namespace_is_shared_on_purpose(place: Site, kind: str) -> None:
    lab = place.up(f"nodes: {{one: {{}}, two: {{namespaces: {{{kind}: one}}}}, three: {{}}}}")
    found = {name: lab[name].succeed(f"readlink /proc/self/ns/{kind}") for name in lab.nodes()}
    assert found["one"] == found["two"] != found["three"]
    kinds = {"net", "ipc", "uts", "pid", "mnt", "cgroup"} - {kind}
    for other in sorted(kinds):
        where = f"readlink /proc/self/ns/{other}"
        assert lab["one"].succeed(where) != lab["two"].succeed(where), other


def test_a_check_is_red_when_its_server_is_stopped(place: Site) -> None:
    lab = place.up(PAIR + 'checks: [{on: other, http: "http://web/", within: 2s}]')
    wait_until(lambda: lab.check().ok, "a server")
    lab["web"].job("web", "stop")
    assert not lab.check().ok
    lab["web"].job("web", "start")
    wait_until(lambda: lab.check().ok, "a server once more")


def test_net_bind_service_alone_binds_port_80_and_nothing_else(place: Site) -> None:
    """Issue 3, "The nodes"."""
    program = """
import os, socket, sys
out = []
socket.create_server(("", 80))
out.append("bound")
for what in (lambda: os.kill(int(sys.argv[1]), 9), lambda: os.chroot("/tmp")):
    try:
        what()
        out.append("done")
    except PermissionError:
        out.append("refused")
print(*out, flush=True)
"""
    text = f"""
nodes:
  one:
    files: {{/opt/program: {json.dumps(program)}}}
    jobs:
      victim: sleep 1000
      bound:
        start_on: started victim
        exec: sh -c 'exec python3 /opt/program $(pgrep sleep)'
        user: nobody
        capabilities: [NET_BIND_SERVICE]
"""
    lab = place.up(text)
    wait_until(lambda: bool(lab["one"].log_tail("bound")), "the job writes")
    assert lab["one"].log_tail("bound") == ("bound refused refused",)
    assert lab["one"].jobs()["victim"].pid


BOMB = """
import os
reader, writer = os.pipe()
while True:
    try:
        child = os.fork()
    except OSError:
        break
    if not child:
        os.close(writer)
        os.read(reader, 1)  # It ends with those that have the other end, its parent last of all.
        os._exit(0)
"""
HOGS = """
nodes:
  bomb: {limits: {pids: 60}}
  hog: {limits: {memory: 48M}}
  calm: {}
"""


def test_a_fork_bomb_and_a_memory_hog_leave_the_others_alone_and_are_named(place: Site) -> None:
    lab = place.up(HOGS)
    lab["bomb"].execute(["python3", "-c", BOMB], timeout_s=60)
    assert lab["hog"].execute(["python3", "-c", "b'x' * (300 << 20)"]).status == 128 + 9
    assert lab["calm"].succeed("echo here") == "here\n"
    told = {row["name"]: list(row["exceeded"]) for row in lab.status()["nodes"]}
    assert told == {"bomb": ["pids"], "hog": ["memory"], "calm": []}


def bundle(directory: Path) -> dict[str, object]:
    """What `runc spec` writes, with busybox in the root; skips where there is no runc."""
    busybox = shutil.which("busybox")
    if shutil.which("runc") is None or busybox is None:
        pytest.skip("no runc or busybox: apt-get install runc busybox-static")
    for name in ("bin", "proc", "dev", "sys", "etc", "root", "srv"):
        (directory / "rootfs" / name).mkdir(parents=True)
    shutil.copy(busybox, directory / "rootfs/bin/busybox")
    for name in ("sh", "cat", "sleep", "ls", "mount", "id", "touch", "readlink", "echo", "test"):
        (directory / "rootfs/bin" / name).symlink_to("busybox")
    for part in directory.glob("**/"):
        part.chmod(0o755)
    os.chmod(directory, 0o755)
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    found: dict[str, object] = json.loads((directory / "config.json").read_text())
    return found


def staged(place: Site, directory: Path, config: dict[str, object]) -> Lab:
    (directory / "config.json").write_text(json.dumps(config))
    return place.up(f"nodes: {{box: {{root: {{oci: {directory}}}}}}}")


def mounted(lab: Lab) -> dict[str, str]:
    """target -> 'type options' of the last mount on each."""
    found = {}
    for line in lab["box"].succeed("cat /proc/self/mounts").splitlines():
        _, target, kind, options, *_ = line.split()
        found[target] = f"{kind} {options}"
    return found


def test_a_bundle_of_runc_spec_is_a_node(place: Site, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    config = bundle(directory)
    config["process"]["terminal"] = False  # type: ignore[index]  # JSON
    config["process"]["args"] = ["sleep", "1000"]  # type: ignore[index]  # JSON
    lab = staged(place, directory, config)
    wait_until(lambda: bool(lab["box"].jobs()["main"].pid), "its program runs")
    table = mounted(lab)
    assert set(table) >= {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"}
    assert table["/dev/shm"].startswith("tmpfs rw,nosuid,nodev,noexec")
    assert "size=65536k" in table["/dev/shm"] or "size=64m" in table["/dev/shm"]
    assert table["/sys/fs/cgroup"].split()[0] in ("cgroup", "cgroup2")
    assert " ro," in table["/sys/fs/cgroup"]
    targets = [line.split()[1] for line in lab["box"].succeed("cat /proc/self/mounts").splitlines()]
    assert len([t for t in targets if t in ("/proc", "/dev/pts", "/dev/shm", "/sys")]) == 4
    assert lab["box"].shell("touch /srv/x").status, "the bundle says readonly"
    assert lab["box"].succeed("id -u; cat /proc/sys/kernel/hostname") == "0\nrunc\n"


def test_a_bundle_s_mounts_are_made_as_it_says(place: Site, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    config = bundle(directory)
    config["process"]["terminal"] = False  # type: ignore[index]  # JSON
    config["process"]["args"] = ["sleep", "1000"]  # type: ignore[index]  # JSON
    shared = tmp_path / "shared"
    (shared / "below").mkdir(parents=True)
    (shared / "file").write_text("seen")
    os.chmod(tmp_path, 0o755)
    config["mounts"] += [  # type: ignore[operator]  # JSON
        {"destination": "/srv/ro", "source": str(shared), "options": ["rbind", "rro"]},
        {"destination": "/srv/rw", "source": str(shared), "options": ["bind", "noexec"]},
        {"destination": "/srv/one", "source": str(shared / "file"), "options": ["bind", "ro"]},
        {
            "destination": "/srv/tmp",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "size=64k", "mode=0700"],
        },
    ]
    lab = staged(place, directory, config)
    box = lab["box"]
    assert box.succeed("cat /srv/ro/file /srv/one") == "seenseen"
    assert box.shell("touch /srv/ro/new").status
    assert box.shell("touch /srv/one").status
    box.succeed("touch /srv/rw/new && test -e /srv/ro/new")
    assert "noexec" in mounted(lab)["/srv/rw"]
    assert "size=64k" in mounted(lab)["/srv/tmp"]
    assert box.succeed("ls -ld /srv/tmp").startswith("drwx------")


def test_a_mount_that_the_kernel_refuses_is_named(place: Site, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    config = bundle(directory)
    config["mounts"] += [  # type: ignore[operator]  # JSON
        {"destination": "/srv/x", "type": "nosuchfs", "source": "none"}
    ]
    with pytest.raises(Problem, match="/srv/x"):
        staged(place, directory, config)


def test_its_link_local_addresses_are_usable_at_once_whoever_has_them_too(place: Site) -> None:
    """What is left of a killed node may still answer when the next one of its name comes."""
    text = """
segments: {{lan: [10.7.0.0/24, "fd07::/64"], back: "fd08::/64"}}
nodes:
  ghost: {{interfaces: {{eth0: lan}}}}
  web: {{interfaces: {{eth0: lan{more}}}}}
"""
    lab = place.up(text.format(more=", eth1: back"))
    address = "ip -6 -o addr show dev eth0 scope link | awk '{print $4}'"
    theirs = lab["web"].succeed(address).strip()
    lab = place.up(text.format(more=""))
    lab["ghost"].succeed(f"ip addr add {theirs} dev eth0 nodad")
    os.kill(lab["web"].pid, signal.SIGKILL)
    wait_until(lambda: "web" not in lab.nodes(), "the hub hears of it")
    lab = place.up(text.format(more=""))
    assert lab["web"].succeed(f"ip -6 addr show tentative; {address}").strip() == theirs
    lab = place.up(text.format(more=", eth1: back"))
    assert lab["web"].succeed("ip -6 addr show tentative") == ""
    assert "fe80::" in lab["web"].succeed("ip -6 addr show dev eth1")

"""Things plugged into nodes: what jobs, libudev and those who look see of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hostlab.api import Node
from hostlab.cli.main import run
from hostlab.errors import UsageError
from hostlab.init.devices.watching import LISTENING, Sight, Way
from hostlab.lab import remains
from hostlab.lab.devices import CONTENT
from hostlab.linux.sysfs import Tree, device_at
from hostlab.observe.devices import listed, sights
from hostlab.spec.device import Device, DeviceEntry, load_device
from hostlab.sync import Lab
from tests.netns.init.init_site import children
from tests.netns.lab.lab_site import Site, assert_holds, needs_hostlab_in_nodes, wait_until
from tests.netns.lab.wall_site import PLAIN_USER
from tests.netns.lab.wall_site import Site as WallSite

pytestmark = pytest.mark.netns

EXAMPLES = Path(__file__).parents[3] / "examples"
DESCRIPTION = """
nodes:
  desk:
    jobs:
      copy:
        start_on: block-device-added ID_FS_USAGE=filesystem
        stop_on: block-device-removed KERNEL=$KERNEL
        task: true
        instance: $KERNEL
        script: |
          cp -r "$ID_HOSTLAB_CONTENT" /srv/copy.new
          mv /srv/copy.new "/srv/$ID_FS_LABEL"
          echo "copied $DEVNAME"
      seen:
        start_on: usb-device-added or usb-device-bind or usb-device-removed or usb-device-unbind
        task: true
        instance: $SEQNUM
        exec: echo "$ACTION $KERNEL $DRIVER" >> /srv/seen
      slow:
        start_on: block-device-added ID_FS_LABEL=PIPE
        task: true
        exec: cp -r "$ID_HOSTLAB_CONTENT/." /srv/
"""
LISTENER = """
import json, sys, pyudev
context = pyudev.Context()
monitor = pyudev.Monitor.from_netlink(context, "udev")
monitor.filter_by("block")
monitor.start()
print("listening", flush=True)
heard = []
while len(heard) < 4:
    device = monitor.poll(60)
    heard.append((device.action, device.sys_name, dict(device.properties).get("ID_FS_LABEL")))
print(json.dumps(heard))
"""
LOOKER = """
import json, os, sys, pyudev
os.environ["SYSTEMD_DEVICE_VERIFY_SYSFS"] = "0"
found = pyudev.Context().list_devices(subsystem="block", ID_BUS="usb")
parents = {d.sys_name: d.find_parent("usb", "usb_device") for d in found}
print(json.dumps({
    name: [p.attributes.asstring("product"), p.get("ID_SERIAL_SHORT")]
    for name, p in parents.items()
}))
"""


def recorded(name: str, **changes: str) -> Device:
    """A recording of the examples."""
    path = EXAMPLES / "devices" / f"{name}.yaml"
    text = path.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    return load_device(text, file=str(path), directory=str(path.parent))


def sockets(lab: Lab) -> Node:
    return lab["desk"]


def has(lab: Lab, path: str) -> bool:
    return not lab["desk"].execute(["test", "-e", path]).status


def seen(lab: Lab) -> list[str]:
    return lab["desk"].succeed("cat /srv/seen || :").splitlines()


def test_a_stick_is_plugged_in_and_a_job_copies_it(place: Site) -> None:
    lab = place.up(DESCRIPTION)
    lab["desk"].wait_settled(within_s=60)
    desk = sockets(lab)
    remarks = desk.plug(recorded("stick"))
    assert list(remarks) == ["there is no /dev/sda: a container can be given no device file"]
    wait_until(lambda: has(lab, "/srv/PHOTOS"), "a copy")
    assert lab["desk"].succeed("ls /srv/PHOTOS").split() == ["cat.txt", "sea.txt"]
    (stick,) = desk.plugged()
    assert stick.content is not None
    assert [each.get(CONTENT) for each in stick.devices if CONTENT in each] == [stick.content]
    lab["desk"].fail(f"touch {stick.content}/new")
    desk.unplug("stick")
    wait_until(lambda: len(seen(lab)) == 8, "the stick's events")
    # Each event starts an instance of its own, and they run at the same time.
    assert sorted(seen(lab)) == [
        "add 2-2 ",
        "add 2-2:1.0 ",
        "bind 2-2 usb",
        "bind 2-2:1.0 usb-storage",
        "remove 2-2 ",
        "remove 2-2:1.0 ",
        "unbind 2-2 usb",
        "unbind 2-2:1.0 usb-storage",
    ]
    for path in (stick.content, "/run/udev/data/b8:1", "/sys/class/block/sda1"):
        assert not has(lab, path), path
    assert (
        lab["desk"].succeed("cat /run/udev/tags/systemd/* /sys/bus/usb/devices/*/uevent||:") == ""
    )
    # And once more.
    desk.plug(recorded("stick"))
    wait_until(lambda: len(seen(lab)) == 12, "the stick's events")


def test_sysfs_and_udevs_database_show_it(place: Site) -> None:
    lab = place.up(DESCRIPTION)
    shown = "ls /sys/block /sys/class /sys/bus /sys/devices"
    before = lab["desk"].succeed(shown)
    sockets(lab).plug(recorded("stick"))
    sockets(lab).plug(recorded("mouse"))
    root = f"/proc/{lab['desk'].pid}/root"
    path = os.readlink(f"{root}/sys/class/block/sda1").removeprefix("../..")
    found = device_at(path, Tree(f"{root}/sys", f"{root}/run/udev/data"))
    assert found is not None
    stick = recorded("stick").devices[-1]
    expected = stick.udev_properties() | {"ACTION": "add", CONTENT: "/run/hostlab/devices/stick"}
    got = dict(found.properties)
    got["CURRENT_TAGS"] = got["TAGS"]
    assert got == expected
    read = lab["desk"].succeed
    assert read("cat /sys/block/sda/sda1/size /sys/dev/block/8:1/partition") == "129024\n1\n"
    assert read("cat /sys/bus/usb/devices/2-2/product") == "QEMU USB HARDDRIVE\n"
    assert read("cat /sys/class/input/mouse*/uevent | grep NAME") == "DEVNAME=input/mouse0\n"
    # The kernel's own stays, and nothing can be written.
    assert set(before.split()) <= set(
        read("ls /sys/block /sys/class /sys/bus /sys/devices").split()
    )
    for target in ("/sys/block/sda/size", "/sys/class/new", "/sys/bus/usb/devices/2-2/product"):
        lab["desk"].fail(f"echo 1 > {target}")
    lab["desk"].fail("rm /sys/block/sda/size")
    sockets(lab).unplug("stick")
    assert read("ls /sys/bus/usb/devices").split() == ["1-3", "1-3:1.0"]
    sockets(lab).unplug("mouse")
    assert set(before.split()) == set(read(shown).split())
    lab["desk"].fail("grep /sys /proc/self/mountinfo | grep overlay")


def test_libudev_in_a_node_hears_and_finds_it(place: Site) -> None:
    pytest.importorskip("pyudev")
    needs_hostlab_in_nodes()
    lab = place.up(DESCRIPTION)
    # libudev listens where it sees a udev's sign, which the first thing that is plugged in leaves.
    sockets(lab).plug(recorded("mouse"))
    python = [sys.executable, "-c"]
    lab["desk"].succeed("mkfifo /srv/told")
    with lab["desk"].control() as control:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        number = control.send("exec", (null, writer, writer), argv=[*python, LISTENER])
        for fd in (null, writer):
            os.close(fd)
        with os.fdopen(reader) as told:
            assert told.readline() == "listening\n"
            sockets(lab).plug(recorded("stick"))
            out = lab["desk"].execute([*python, LOOKER])
            assert json.loads(out.stdout) == {
                "sda": ["QEMU USB HARDDRIVE", "4C530001"],
                "sda1": ["QEMU USB HARDDRIVE", "4C530001"],
            }, out.stderr
            sockets(lab).unplug("stick")
            heard = json.loads(told.readline())
        while control.receive().get("id") != number:
            continue
    assert heard == [
        ["add", "sda", None],
        ["add", "sda1", "PHOTOS"],
        ["remove", "sda1", "PHOTOS"],
        ["remove", "sda", None],
    ]


def supervisor(lab: Lab) -> int:
    """The supervisor of the node: the holder's child that has the lab's mark, which jobs lose."""
    found: list[int] = []

    def is_there() -> bool:
        marked = remains.marks()
        found[:] = [pid for pid in children(lab["desk"].pid) if pid in marked]
        return bool(found)

    wait_until(is_there, "a supervisor")
    return found[0]


def test_what_happens_while_no_supervisor_is_there_is_heard_by_the_next(place: Site) -> None:
    lab = place.up(DESCRIPTION)
    lab["desk"].wait_settled(within_s=60)
    for expected in range(8, 48, 8):
        old = supervisor(lab)
        os.kill(old, signal.SIGSTOP)
        sockets(lab).plug(recorded("stick"))
        sockets(lab).unplug("stick")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda count=expected: len(seen(lab)) >= count, "the events")  # type: ignore[misc]  # mypy infers no type of a lambda's default
        assert len(seen(lab)) == expected


def test_it_is_pulled_out_while_a_job_copies(place: Site, tmp_path: Path) -> None:
    """The job fails as it would on a host, and the node goes on."""
    content = tmp_path / "content"
    content.mkdir()
    (content / "first").write_text("1")
    # cp comes here and stays, until somebody writes.
    os.mkfifo(content / "pipe")
    lab = place.up(
        DESCRIPTION.replace(
            'cp -r "$ID_HOSTLAB_CONTENT/." /srv/',
            'sh -c \'cat "$ID_HOSTLAB_CONTENT/pipe"; cp "$ID_HOSTLAB_CONTENT/first" /srv/\'',
        )
    )
    device = recorded("stick", PHOTOS="PIPE", **{"content: photos": f"content: ../{content}"})
    changed = Device(name=device.name, devices=device.devices, content=str(content))
    sockets(lab).plug(changed)
    writer = os.open(content / "pipe", os.O_WRONLY | os.O_CLOEXEC)
    sockets(lab).unplug("stick")
    os.close(writer)

    def state() -> str:
        found: str = next(r["state"] for r in lab["desk"].job_table() if r["name"] == "slow")
        return found

    wait_until(lambda: state() == "failed", "the copy to fail")
    wait_until(lambda: "No such file" in "".join(lab["desk"].log_tail("slow")), "why it failed")
    sockets(lab).plug(recorded("stick"))
    wait_until(lambda: has(lab, "/srv/PHOTOS"), "a copy")


def test_in_a_node_with_a_root_of_its_own(place: Site, tmp_path: Path) -> None:
    """In which there is no Python and no hostlab."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox: apt-get install busybox-static")
    root = tmp_path / "root"
    for directory in ("bin", "etc", "srv"):
        (root / directory).mkdir(parents=True)
    shutil.copy(busybox, root / "bin")
    for name in ("sh", "cp", "mv", "test", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    lab = place.up(DESCRIPTION.replace("  desk:\n", f"  desk:\n    root: {root}\n"))
    sockets(lab).plug(recorded("stick"))
    wait_until(lambda: has(lab, "/srv/PHOTOS/cat.txt"), "a copy")
    found = list(sights(lab["desk"].pid, watch=False))
    assert {each.name for each in found if each.way is Way.UDEV} == {"2-2", "sda", "sda1"}
    assert [each.note for each in found if each.note] == ["no bus: No such file or directory"]
    sockets(lab).unplug("stick")


def test_the_commands_tell_mistakes_with_their_place(
    place: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place.up(DESCRIPTION)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\ndevices:\n  - {path: /dev/sda, subsystem: block}\n")
    assert run(["device", "plug", "desk", str(wrong)]) == 2
    assert f"{wrong}:3:12: `/dev/sda` is not a path below /sys/devices" in capfd.readouterr().err
    assert run(["device", "plug", "desk", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: No such file" in capfd.readouterr().err
    assert run(["device", "unplug", "desk", "nothing"]) == 2
    assert "plugged in: nothing" in capfd.readouterr().err
    assert run(["device", "plug", "desk", str(EXAMPLES / "devices" / "mouse.yaml")]) == 0
    assert "warning: desk: mouse: there is no /dev/" in capfd.readouterr().err
    assert run(["device", "list", "desk", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [(row["name"], row["content"]) for row in rows] == [("mouse", None)]
    assert run(["device", "unplug", "desk", str(EXAMPLES / "devices" / "mouse.yaml")]) == 0
    assert capfd.readouterr().out == "mouse is pulled out of desk\n"


def test_a_nodes_root_cannot_have_walls_taken_down(place: Site) -> None:
    """Whatever stands where a device's record and content were: they are followed nowhere."""
    lab = place.up(DESCRIPTION)
    desk = sockets(lab)
    covers = "grep -E ' /(proc|sys)/' /proc/self/mountinfo | cut -d' ' -f5,6 | sort"
    before = lab["desk"].succeed(covers)
    sys_named = recorded("stick", **{"name: stick": "name: sys"})
    desk.plug(sys_named)
    place_of, moved = "/run/hostlab/devices", "/run/hostlab/moved"
    lab["desk"].succeed(f"mv {place_of} {moved}; ln -s /proc {place_of}")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        desk.unplug("sys")
    forged = {"name": "sys", "devices": [], "directories": ["/proc/sys"], "content": "/proc/irq"}
    lab["desk"].succeed(
        f"rm {place_of}; mv {moved} {place_of}; echo '{json.dumps(forged)}' > {place_of}/sys.json"
    )
    desk.unplug("sys")
    assert lab["desk"].succeed(covers) == before
    assert list(desk.plugged()) == []


def test_a_node_that_is_staged_again_has_nothing_plugged_in(place: Site) -> None:
    lab = place.up(DESCRIPTION)
    sockets(lab).plug(recorded("stick"))
    os.kill(lab["desk"].pid, signal.SIGKILL)
    wait_until(lambda: "desk" not in lab.nodes(), "the node to end")
    lab = place.up(DESCRIPTION)
    assert list(sockets(lab).plugged()) == []
    sockets(lab).plug(recorded("stick"))
    wait_until(lambda: has(lab, "/srv/PHOTOS"), "a copy")


def test_what_cannot_be_is_told(place: Site) -> None:
    lab = place.up(DESCRIPTION)
    desk = sockets(lab)
    desk.plug(recorded("stick"))
    with pytest.raises(UsageError, match="stick is in its place"):
        desk.plug(recorded("stick"))
    twin = recorded("stick")
    with pytest.raises(UsageError, match="stick is in its place"):
        desk.plug(Device(name="twin", devices=twin.devices))
    with pytest.raises(UsageError, match="no 'lamp' is plugged into node desk"):
        desk.unplug("lamp")
    # Whatever is mounted below /sys/devices would be taken off with what is laid over all of it.
    elsewhere = DeviceEntry(path="/devices/elsewhere/x", subsystem="usb")
    (said,) = desk.plug(Device(name="elsewhere", devices=(elsewhere,)))
    assert said.startswith("its /sys does not show it: it would uncover /sys/devices/virtual/")
    assert not has(lab, "/sys/devices/elsewhere")
    # That is no matter of the others.
    desk.plug(recorded("mouse"))
    assert has(lab, "/sys/class/block/sda1")
    assert has(lab, "/sys/bus/usb/devices/1-3")
    desk.unplug("elsewhere")
    desk.unplug("mouse")
    assert has(lab, "/sys/class/block/sda1")
    with pytest.raises(UsageError, match="/nowhere is no directory"):
        desk.plug(Device(name="other", devices=twin.devices[:1], content="/nowhere"))


def desktop() -> str:
    """The lab of the examples in which UDisks2's interface is answered."""
    text = (EXAMPLES / "desktop.yaml").read_text().partition("nodes:")[2]
    return f"nodes:{text}".replace("devices/bus.conf", f"{EXAMPLES}/devices/bus.conf")


def with_a_bus(place: Site) -> Lab:
    """`desktop`, up, when UDisks2 answers."""
    needs_hostlab_in_nodes()
    if not all(map(shutil.which, ("dbus-daemon", "gdbus", "udisksctl"))):
        pytest.skip("apt-get install dbus libglib2.0-bin udisks2")
    lab = place.up(desktop())
    assert_holds(lab)
    return lab


def heard(found: Iterator[Sight], wanted: set[tuple[str, str, str]]) -> list[Sight]:
    """What is told until all of (way, action, name) was."""
    told: list[Sight] = []
    for sight in found:
        assert not sight.note, sight.note
        told.append(sight)
        wanted.discard((sight.way, sight.action, sight.name))
        if not wanted:
            return told
    raise AssertionError(f"not told: {wanted}")


def test_three_ways_tell_of_the_same_stick_and_two_of_a_mouse(place: Site) -> None:
    """The notebook's: netlink, udev, UDisks2; and the mouse is no storage."""
    lab = with_a_bus(place)
    with contextlib.closing(sights(lab["desk"].pid, watch=True)) as found:
        heard(found, {("kernel", LISTENING, ""), ("udisks2", LISTENING, "")})
        sockets(lab).plug(recorded("mouse"))
        sockets(lab).plug(recorded("stick"))
        ways = {(way, "add", name) for way in ("kernel", "udev") for name in ("mouse0", "sda1")}
        told = heard(found, {*ways, ("udisks2", "filesystem added", "sda1")})
        serials = {each.way: each.serial for each in told if each.name == "sda"}
        assert serials == {"kernel": "", "udev": "4C530001", "udisks2": "4C530001"}
        by_udisks2 = [(each.action, each.name) for each in told if each.way is Way.UDISKS2]
        assert by_udisks2 == [("drive added", "sda"), ("filesystem added", "sda1")]
        lab["desk"].succeed("udisksctl mount -b /dev/sda1")
        rows = {row.name: row for row in listed(list(sights(lab["desk"].pid, watch=False)))}
        assert {name: row.seen_by for name, row in rows.items()} == {
            "1-3": (Way.KERNEL, Way.UDEV),
            "2-2": (Way.KERNEL, Way.UDEV),
            "sda": tuple(Way),
            "sda1": tuple(Way),
        }
        assert rows["sda1"].mountpoints == ("/media/root/PHOTOS",)
        sockets(lab).unplug("stick")
        told = heard(found, {("udisks2", "drive removed", "sda"), ("kernel", "remove", "2-2")})
        actions = [each.action for each in told if each.way is Way.UDISKS2]
        assert actions == ["mounted", "unmounted", "filesystem removed", "drive removed"]


def test_a_job_of_storage_survives_its_supervisor(place: Site) -> None:
    """Its events are the node's own: told once a stick, whoever has died meanwhile."""
    lab = with_a_bus(place)
    text = desktop()
    more = """\
      note:
        start_on: storage-drive-added or storage-drive-removed
        task: true
        exec: echo "$UPSTART_EVENTS $SERIAL" >> /srv/seen
"""
    place.up(text.replace("checks:", f"{more}checks:"))
    lab["desk"].wait_settled(within_s=60)
    for expected in range(2, 8, 2):
        lab["desk"].jobs()  # When it answers, what it has told is noted, too.
        old = supervisor(lab)
        os.kill(old, signal.SIGSTOP)
        sockets(lab).plug(recorded("stick"))
        os.kill(old, signal.SIGKILL)
        wait_until(lambda count=expected - 1: len(seen(lab)) == count, "an added drive")  # type: ignore[misc]  # mypy infers no type of a lambda's default
        sockets(lab).unplug("stick")
        wait_until(lambda count=expected: len(seen(lab)) == count, "a removed drive")  # type: ignore[misc]  # mypy infers no type of a lambda's default
    assert seen(lab) == ["storage-drive-added 4C530001", "storage-drive-removed 4C530001"] * 3


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that a plain user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="hostlab-devices-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_in_a_plain_users_lab(open_directory: Path) -> None:
    if os.geteuid():
        pytest.skip("here: the other tests are a plain user's already")
    text = f"name: test-{os.getpid()}\n{DESCRIPTION}"
    site = WallSite(open_directory, text, is_root=False)
    packages = open_directory / "packages"
    devices = open_directory / "devices"
    shutil.copytree(EXAMPLES / "devices", devices)
    shutil.copytree(Path(click.__file__).parent, packages / "click")

    def hostlab(*words: str) -> str:
        done = subprocess.run(
            ["/usr/bin/python3", "-P", "-m", "hostlab.cli.main", *words],
            env={
                "HOSTLAB_RUN": str(site.run_directory),
                "PYTHONPATH": str(packages),
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            user=PLAIN_USER,
            group=PLAIN_USER,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    try:
        site.run("desk", "true")
        said = hostlab("device", "plug", "desk", str(devices / "stick.yaml"))
        assert "/sys does not show it" not in said
        wait_until(lambda: "PHOTOS" in site.run("desk", "ls", "/srv"), "a copy")
        assert site.run("desk", "cat", "/sys/class/block/sda1/size") == "129024\n"
        row = next(r for r in hostlab("devices", "-n", "desk").splitlines() if r.startswith("sda1"))
        assert row.endswith("kernel, udev")
        hostlab("device", "unplug", "desk", "stick")
    finally:
        site.close()

"""Devices in /sys and udev's database, from trees that a test has made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.linux.sysfs import (
    MAX_FILE_BYTES,
    Tree,
    database_name,
    database_properties,
    database_text,
    device_at,
    devices,
    of_kernel,
)
from hostlab.linux.uevents import UDEV, of_device

pytestmark = pytest.mark.unit

DISK = "/devices/pci0000:00/usb2/block/sdb"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(str(tmp_path / "sys"), str(tmp_path / "data"))
    os.makedirs(f"{made.sys}/class/block")
    os.makedirs(made.data)
    for path, text in (
        (DISK, "MAJOR=8\nMINOR=16\nDEVNAME=sdb\nDEVTYPE=disk\n"),
        (f"{DISK}/sdb1", "MAJOR=8\nMINOR=17\nDEVNAME=sdb1\nDEVTYPE=partition\nnonsense\n"),
    ):
        os.makedirs(f"{made.sys}{path}")
        Path(f"{made.sys}{path}/uevent").write_text(text)
        os.symlink(f"{made.sys}/class/block", f"{made.sys}{path}/subsystem")
        os.symlink(f"{made.sys}{path}", f"{made.sys}/class/block/{path.rpartition('/')[2]}")
    Path(f"{made.data}/b8:17").write_text(
        "S:disk/by-label/X\nI:7\nE:ID_FS_LABEL=X=Y\nG:systemd\nQ:systemd\nV:1\nE:broken\n"
    )
    return made


def test_the_devices_of_a_subsystem(tree: Tree) -> None:
    disk, partition = devices("block", tree)
    assert (disk.devname, disk.get("DEVTYPE"), disk.action) == ("/dev/sdb", "disk", "add")
    assert dict(partition.properties) == {
        "ACTION": "add",
        "DEVPATH": f"{DISK}/sdb1",
        "SUBSYSTEM": "block",
        "MAJOR": "8",
        "MINOR": "17",
        "DEVNAME": "/dev/sdb1",
        "DEVTYPE": "partition",
        "ID_FS_LABEL": "X=Y",
        "DEVLINKS": "/dev/disk/by-label/X",
        "TAGS": ":systemd:",
    }


def test_what_is_not_there_is_nothing(tree: Tree) -> None:
    for name in ("usb", "../class/block", "", ".."):
        assert list(devices(name, tree)) == []
    assert device_at("/devices/nothing", tree) is None
    os.symlink("/nowhere", f"{tree.sys}/class/block/dangling")
    assert len(list(devices("block", tree))) == 2


def test_a_file_without_end_is_cut(tree: Tree) -> None:
    Path(f"{tree.data}/b8:16").write_text("E:A=" + "x" * 2 * MAX_FILE_BYTES)
    found = device_at(DISK, tree)
    assert found is not None
    assert len(found.get("A")) < MAX_FILE_BYTES


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"SUBSYSTEM": "block", "MAJOR": "8", "MINOR": "1"}, "b8:1"),
        ({"SUBSYSTEM": "input", "MAJOR": "13", "MINOR": "32"}, "c13:32"),
        ({"SUBSYSTEM": "net", "IFINDEX": "3"}, "n3"),
        ({"SUBSYSTEM": "usb"}, "+usb:2-2"),
    ],
)
def test_names_in_the_database(properties: dict[str, str], name: str) -> None:
    assert database_name({"DEVPATH": "/devices/usb2/2-2", **properties}) == name


def test_what_is_written_into_the_database_is_read_again() -> None:
    said = {"DEVPATH": DISK, "SUBSYSTEM": "block", "MAJOR": "8", "DEVNAME": "/dev/sdb"}
    udevs = {"ID_BUS": "usb", "DEVLINKS": "/dev/disk/by-id/a /dev/b", "TAGS": ":x:systemd:"}
    text = database_text(of_device("add", said | udevs, UDEV))
    assert database_properties(text) == udevs
    assert of_kernel(said | udevs | {"USEC_INITIALIZED": "7"}) == {**said, "DEVNAME": "sdb"}

"""What a client of UDisks2 makes of its signals: drives, file systems, mounts, each once."""

from __future__ import annotations

import pytest

from hostlab.init.devices.storage import MAX_OBJECTS, Storage, changes
from hostlab.init.devices.udisks2 import NAME, ROOT

pytestmark = pytest.mark.unit

DRIVE, DISK, PARTITION = (
    f"{ROOT}/drives/d",
    f"{ROOT}/block_devices/sda",
    f"{ROOT}/block_devices/sda1",
)
BLOCK = {"Device": b"/dev/sda1\0", "Drive": DRIVE, "IdLabel": "PHOTOS", "Size": 7}


def told(storage: Storage, before: Storage | None = None) -> list[str]:
    first = {} if before is None else before.picture()
    return [name.removeprefix("storage-") for name, _ in changes(first, storage.picture())]


def stick() -> Storage:
    storage = Storage()
    storage.added(DRIVE, {f"{NAME}.Drive": {"Vendor": "V", "Removable": True}})
    storage.added(DISK, {f"{NAME}.Block": {**BLOCK, "Device": b"/dev/sda\0"}})
    storage.added(PARTITION, {f"{NAME}.Block": BLOCK, f"{NAME}.Partition": {}})
    storage.added(PARTITION, {f"{NAME}.Filesystem": {"MountPoints": []}})
    return storage


def test_a_drive_is_there_with_its_disk_and_once() -> None:
    storage = Storage()
    storage.added(DRIVE, {f"{NAME}.Drive": {"Vendor": "V"}})
    assert told(storage) == []
    # In whatever order its parts are told of.
    storage.added(PARTITION, {f"{NAME}.Block": BLOCK, f"{NAME}.Partition": {}})
    assert told(storage) == []
    storage.added(DISK, {f"{NAME}.Block": {**BLOCK, "Device": b"/dev/sda\0"}})
    assert told(storage) == ["drive-added"]
    storage.added(PARTITION, {f"{NAME}.Filesystem": {"MountPoints": [b"/a\0", b"/b\0"]}})
    assert told(storage) == ["drive-added", "filesystem-added", "mounted", "mounted"]


def test_a_file_system_waits_for_its_drive() -> None:
    storage = Storage()
    storage.added(PARTITION, {f"{NAME}.Block": BLOCK, f"{NAME}.Partition": {}})
    storage.added(PARTITION, {f"{NAME}.Filesystem": {"MountPoints": [b"/a\0"]}})
    assert told(storage) == []
    storage.added(DISK, {f"{NAME}.Block": {**BLOCK, "Device": b"/dev/sda\0"}})
    assert told(storage) == []
    storage.added(DRIVE, {f"{NAME}.Drive": {"Vendor": "V"}})
    assert told(storage) == ["drive-added", "filesystem-added", "mounted"]
    # A drive that goes first takes it along; one that is on none is there by itself.
    after = stick()
    after.removed(DRIVE, [f"{NAME}.Drive"])
    assert told(after, stick()) == ["filesystem-removed", "drive-removed"]
    loop = Storage()
    loop.added(PARTITION, {f"{NAME}.Block": {**BLOCK, "Drive": "/"}, f"{NAME}.Filesystem": {}})
    assert told(loop) == ["filesystem-added"]


def test_variables() -> None:
    drive, filesystem = (dict(each) for each in stick().picture().values())
    assert (drive["DEVNAME"], drive["VENDOR"], drive["REMOVABLE"]) == ("/dev/sda", "V", "1")
    assert (filesystem["DEVNAME"], filesystem["LABEL"], filesystem["SIZE"]) == (
        "/dev/sda1", "PHOTOS", "7"
    )  # fmt: skip
    assert filesystem["DRIVE"] == DRIVE


def test_what_goes_goes_in_reverse() -> None:
    before = stick()
    before.changed(PARTITION, f"{NAME}.Filesystem", {"MountPoints": [b"/a\0"]})
    assert told(Storage(), before) == ["unmounted", "filesystem-removed", "drive-removed"]
    after = stick()
    after.removed(PARTITION, [f"{NAME}.Filesystem"])
    assert told(after, stick()) == ["filesystem-removed"]
    after.removed(PARTITION, [f"{NAME}.Block", f"{NAME}.Partition"])
    assert PARTITION not in after.objects


def test_what_is_no_storage_is_nothing() -> None:
    storage = stick()
    before = stick()
    storage.added(f"{ROOT}/jobs/1", {f"{NAME}.Job": {}})
    storage.added("/elsewhere", {f"{NAME}.Drive": {}})
    storage.changed(f"{ROOT}/block_devices/none", f"{NAME}.Filesystem", {"MountPoints": [b"/x\0"]})
    storage.removed("/nothing", ["a"])
    assert told(storage, before) == []
    assert set(storage.objects) == {DRIVE, DISK, PARTITION}


def test_it_is_bounded() -> None:
    storage = Storage()
    for number in range(MAX_OBJECTS + 10):
        storage.added(f"{ROOT}/drives/{number}", {f"{NAME}.Drive": {}})
    assert len(storage.objects) == MAX_OBJECTS

"""Recordings of things that are plugged in: what is read, and every mistake with its place."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec.device import MAX_CHARACTERS, MAX_DEVICES, load_device

pytestmark = pytest.mark.unit

DEVICES = Path(__file__).parents[3] / "examples" / "devices"
ONE = "name: a\ndevices:\n  - path: /devices/x\n    subsystem: usb\n"


def errors(text: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load_device(text, file="x.yaml")
    return [f"{error.where and error.where.line}: {error.message}" for error in caught.value.errors]


def test_the_recorded_stick() -> None:
    path = DEVICES / "stick.yaml"
    stick = load_device(path.read_text(), file="stick.yaml", directory=str(DEVICES))
    assert (stick.name, stick.content) == ("stick", str(DEVICES / "photos"))
    assert [entry.subsystem for entry in stick.devices] == [
        "usb", "usb", "scsi", "scsi_host", "scsi", "scsi", "scsi_device", "scsi_generic",
        "bsg", "scsi_disk", "bdi", "block", "block",
    ]  # fmt: skip
    partition = stick.devices[-1]
    assert partition.kernel_properties() == {
        "DEVPATH": partition.path,
        "SUBSYSTEM": "block",
        "DEVNAME": "sda1",
        "DEVTYPE": "partition",
        "DISKSEQ": "1",
        "PARTN": "1",
        "MAJOR": "8",
        "MINOR": "1",
    }
    udev = partition.udev_properties()
    assert (udev["DEVNAME"], udev["ID_FS_LABEL"], udev["TAGS"]) == (
        "/dev/sda1", "PHOTOS", ":systemd:"
    )  # fmt: skip
    assert "/dev/disk/by-label/PHOTOS" in udev["DEVLINKS"].split()
    assert stick.devices[1].driver == "usb-storage"


def test_a_mouse_has_no_content() -> None:
    mouse = load_device((DEVICES / "mouse.yaml").read_text(), file="mouse.yaml")
    assert mouse.content is None
    assert not any(entry.subsystem == "block" for entry in mouse.devices)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["1: there is no device in it"]),
        ("name: a\n", ["1: `devices` is missing in a pluggable device"]),
        ("name: a/b\ndevices: []\n", ["1: `a/b` "]),
        ("name: a\ndevices: []\n", ["2: a device is wanted"]),
        (ONE.replace("/devices/x", "/etc/passwd"), ["3: `/etc/passwd` is not a path below"]),
        (ONE.replace("/devices/x", "/devices/../x"), ["3: `/devices/../x` is not a path below"]),
        (ONE + "    kernl: {}\n", ["5: unknown key `kernl` in a device"]),
        (ONE + "    kernel: {ACTION: add}\n", ["5: ACTION is said by"]),
        (ONE + "    kernel: {MAJOR: eight}\n", ["5: MAJOR is a number"]),
        (ONE + '    udev: {A: "b\\nc"}\n', ["5: a property is one line"]),
        (ONE + "    attributes: {../x: 1}\n", ["5: `../x` is not an attribute"]),
        (ONE + ONE.partition("devices:\n")[2], ["5: this device is here twice, first at x.yaml:3"]),
        ("#" * (MAX_CHARACTERS + 1), ["1: longer than 1,048,576 characters"]),
        (
            "name: a\ndevices:\n"
            + "".join(
                f"  - {{path: /devices/x{n}, subsystem: u}}\n" for n in range(MAX_DEVICES + 1)
            ),
            [f"{MAX_DEVICES + 3}: more than 256 devices"],
        ),
    ],
)
def test_mistakes_are_told_with_their_places(text: str, said: list[str]) -> None:
    found = errors(text)
    assert len(found) == len(said)
    for message, beginning in zip(found, said, strict=True):
        assert message.startswith(beginning)


@given(st.text(alphabet="namedvics: -/x{}[]\n\"'&*", max_size=80))
def test_any_text_is_a_device_or_errors(text: str) -> None:
    with contextlib.suppress(SpecErrors):
        assert load_device(text, file="x.yaml").devices

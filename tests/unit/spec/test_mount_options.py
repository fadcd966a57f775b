"""Options of a mount, taken apart as the runtime specification and mount(8) say."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.spec import mount_options as m

pytestmark = pytest.mark.unit


def test_the_usual_ones() -> None:
    found = m.mount_flags(["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])
    assert found.flags == m.MS_NOSUID | m.MS_NOEXEC | m.MS_NODEV
    assert found.data == "mode=1777,size=65536k"
    assert found.propagation == ()


def test_a_bind_with_everything() -> None:
    found = m.mount_flags(["rbind", "ro", "rslave", "rnosuid", "rnoatime", "idmap"])
    assert found == m.MountFlags(
        flags=m.MS_BIND | m.MS_REC | m.MS_RDONLY,
        propagation=(m.MS_SLAVE | m.MS_REC,),
        recursive_set=m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOATIME,
        recursive_clear=m.MOUNT_ATTR_ATIME,
        extensions=("idmap",),
    )


def test_the_later_of_two_wins() -> None:
    assert m.mount_flags(["ro", "rw"]) == m.MountFlags(cleared=m.MS_RDONLY)
    assert m.mount_flags(["rw", "ro"]) == m.MountFlags(flags=m.MS_RDONLY)
    assert m.mount_flags(["rro", "rrw"]) == m.MountFlags(recursive_clear=m.MOUNT_ATTR_RDONLY)
    assert m.mount_flags(["rnoatime", "rstrictatime"]).recursive_set == m.MOUNT_ATTR_STRICTATIME


def test_the_numbers_are_those_of_the_c_library() -> None:
    for name in ("RDONLY", "NOSUID", "NODEV", "NOEXEC", "SYNCHRONOUS", "MANDLOCK"):
        assert getattr(m, f"MS_{name}") == getattr(os, f"ST_{name}")


def test_unknown_data() -> None:
    assert m.unknown_data("tmpfs", ["size=1", "sieze=1", "ro"]) == ("sieze=1",)
    assert m.unknown_data("sysfs", ["hidepid=2"]) == ("hidepid=2",)
    assert m.unknown_data("ext4", ["anything"]) == ()


@given(st.lists(st.sampled_from(sorted(m.MOUNT_OPTIONS)), max_size=8))
def test_nothing_is_both_set_and_cleared(names: list[str]) -> None:
    found = m.mount_flags(names)
    assert found.flags & found.cleared == 0
    both = found.recursive_set & found.recursive_clear
    assert both & ~m.MOUNT_ATTR_ATIME == 0
    assert found.data == ""

"""Links between a lab and what is outside of it, made by a process that is in neither.

A link on a device of the machine is made in the lab's switch namespace, and the hub gives it to its
node. A cable to another lab has an end in the switch namespace of each: whichever ends first takes
both ends with it. Nothing of these is in the machine's own network, so there is nothing to journal.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.init.client import Control
from hostlab.lab.description import staged
from hostlab.lab.outlets import Spare, cable_key
from hostlab.lab.paths import LabDirectory, labs, read_if_there
from hostlab.linux import rtnetlink, tunnels
from hostlab.linux.clone import namespace_fd
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import VethEnd
from hostlab.spec.model import Lab, Segment

HUB_SOCKET: Final = "hub.sock"
FREE_TIMEOUT_S: Final = 30.0
"""The kernel collects a namespace in milliseconds; this is for a machine that is swapping."""
AGAIN_S: Final = 0.02


def device_links(lab: Lab, control: Control) -> None:
    """Make the links on the machine's devices that the lab is about to need."""
    if not any(interface.device for node in lab.nodes for interface in node.interfaces):
        return
    rows = control.call("wanted_links", lab=msgspec.to_builtins(lab))["links"]
    wanted = typed.convert(rows, list[Spare])
    if not wanted:
        return
    _check_root(f"segment {wanted[0].segment}: only root can put a node on a machine's device")
    switch = _switch(control)
    try:
        with Netlink() as netlink:
            devices = {link.name: link for link in rtnetlink.links(netlink)}
            for spare in wanted:
                over = _device(devices, spare)
                link = tunnels.NewLink(f"sp{spare.index}", spare.index, spare.mtu, spare.mac)
                request = tunnels.macvlan_add(
                    link, over=over.index, mode=spare.mode, namespace_fd=switch
                )
                netlink.request([request])
                control.call("name_link", index=spare.index, name=spare.key)
                _wait_free(control, spare)
    finally:
        os.close(switch)


def _wait_free(control: Control, spare: Spare) -> None:
    """Wait until no other link on the device has its MAC address.

    A node that has died a moment ago, and a lab that went down, had one of the same address: the
    kernel takes it away in its own time, and nothing tells anybody outside of that namespace.
    """
    deadline = time.monotonic() + FREE_TIMEOUT_S
    while not control.call("try_link", index=spare.index)["is_free"]:
        if time.monotonic() > deadline:
            message = f"segment {spare.segment}: {spare.mac} is on {spare.device} already"
            raise Failed("clash", message, hint="another lab or the machine has it: say `mac`")
        select.select([], [], [], AGAIN_S)


def _device(devices: dict[str, rtnetlink.Link], spare: Spare) -> rtnetlink.Link:
    found = devices.get(spare.device)
    if found is None:
        known = ", ".join(sorted(name for name in devices if name != "lo")) or "none"
        message = f"segment {spare.segment}: the machine has no device {spare.device}"
        raise UsageError("no-device", message, hint=f"it has: {known}")
    if spare.mtu > found.mtu:
        message = f"segment {spare.segment}: {spare.device} carries {found.mtu} bytes at most"
        raise UsageError("mtu", message, hint=f"give the segment `mtu: {found.mtu}`")
    return found


def check_cables(lab: Lab) -> None:
    """What is wrong with the cables that the lab is about to have to labs that are up."""
    for segment, other, theirs in _described(lab):
        far, described = _hub(other), staged(other)
        if far is None or described is None:
            continue
        far.close()
        _check_segment(lab, segment, f"{other}/{theirs}")
        _check_segment(described, theirs, f"{lab.name}/{segment}")
        _check_mtu(_segment(lab, segment), _segment(described, theirs), f"{other}/{theirs}")
        _check_hosts(_hosts(lab, segment), _hosts(described, theirs))
        _check_root(f"segment {segment}: only root can join it to another lab")


def _hub(lab: str) -> Control | None:
    """A connection to another lab's hub; None when it is not up."""
    try:
        return Control.to(LabDirectory.of(lab).path, HUB_SOCKET)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None


def cables(lab: Lab, control: Control) -> None:
    """Join the lab's segments to those of other labs that are up, and end what is not described.

    A cable may be described at either end, or at both: it is one.
    """
    wanted: dict[str, tuple[str, str, str]] = {}
    for segment, other, theirs in _described(lab):
        wanted[cable_key(f"{lab.name}/{segment}", f"{other}/{theirs}")] = (segment, other, theirs)
    there = set(control.call("cables", keep=[*wanted])["cables"])
    for key, (segment, other, theirs) in wanted.items():
        if key not in there:
            _join(lab, control, key, segment, other, theirs)


def _described(lab: Lab) -> Iterator[tuple[str, str, str]]:
    """(own segment, other lab, its segment) of what this lab and the others say."""
    for segment in lab.segments:
        if segment.lab:
            other, _, theirs = segment.lab.partition("/")
            yield segment.name, other, theirs
    for other in labs():
        for segment in _segments_that_name(lab.name, other):
            mine, _, name = segment.lab.partition("/")
            if mine == lab.name:
                yield name, other, segment.name


def _segments_that_name(lab: str, other: str) -> tuple[Segment, ...]:
    """The segments of another lab, if it says anything of this one: it may be large."""
    data = None if other == lab else read_if_there(LabDirectory.of(other).description)
    if data is None or f'"lab":"{lab}/'.encode() not in data:
        return ()
    return typed.decode(data, Lab).segments


def _join(lab: Lab, control: Control, key: str, segment: str, other: str, theirs: str) -> None:
    """A cable, if the other lab is up; when it is not, its own `up` makes it."""
    far = _hub(other)
    if far is None:
        return
    with far, contextlib.ExitStack() as stack:
        spaces = []
        for each in (control, far):
            spaces.append(_switch(each))
            stack.callback(os.close, spaces[-1])
        numbers = [each.call("take_index")["index"] for each in (control, far)]
        here, there = (
            VethEnd(f"c{number}", number, namespace_fd=space)
            for number, space in zip(numbers, spaces, strict=True)
        )
        mtu = _segment(lab, segment).mtu
        with Netlink() as netlink:
            netlink.request([rtnetlink.veth_add(here, there, mtu=mtu)])
        far.call("name_link", index=numbers[1], name=key, segment=theirs)
        control.call("name_link", index=numbers[0], name=key, segment=segment)


def _segment(lab: Lab, name: str) -> Segment:
    return next(segment for segment in lab.segments if segment.name == name)


def _check_segment(lab: Lab, name: str, other: str) -> None:
    if not any(s.name == name and s.is_switched for s in lab.segments):
        known = ", ".join(s.name for s in lab.segments if s.is_switched) or "none"
        message = f"{other} is to be joined to {lab.name}/{name}, which is no segment with a switch"
        raise UsageError("no-segment", message, hint=f"{lab.name} has: {known}")


def _check_mtu(ours: Segment, theirs: Segment, other: str) -> None:
    """A switch drops what is too large for it without a word."""
    if ours.mtu != theirs.mtu:
        message = f"segment {ours.name} has an MTU of {ours.mtu}, {other} one of {theirs.mtu}"
        raise UsageError("mtu", message, hint="give both the same `mtu`")


def _hosts(lab: Lab, segment: str) -> dict[str, str]:
    """Who has which MAC and IP address on a segment."""
    return {
        address: f"{lab.name}/{node.name}"
        for node in lab.nodes
        for interface in node.interfaces
        if interface.segment == segment
        for address in (interface.mac, *(a.partition("/")[0] for a in interface.addresses))
    }


def _check_hosts(ours: dict[str, str], theirs: dict[str, str]) -> None:
    for address in sorted(ours.keys() & theirs.keys()):
        message = f"{ours[address]} and {theirs[address]} would both have {address}"
        raise UsageError("clash", message, hint="declare the addresses of one of them")


def _check_root(message: str) -> None:
    if os.geteuid() != 0:
        hint = "inside one lab a segment needs no right at all"
        raise Unsupported("outside-link", message, hint=hint)


def _switch(control: Control) -> int:
    """A descriptor of a lab's switch namespace."""
    return namespace_fd(control.call("status")["pid"], "net")

"""The kinds of words that the tables of keys share: one scalar each, with its parser and schema."""

from __future__ import annotations

from functools import partial

from hostlab.spec import capabilities, job_forms, names, units
from hostlab.spec.shapes import MapOf, Text, choice

TEXT = Text("text", units.text)
CONTENT = Text("text", units.content)
FLAG = Text("true or false", units.flag, {"type": "boolean"})
NAME = Text("a name", names.name, {"type": "string", "pattern": names.NAME_PATTERN})
LABEL = Text("a host's name", names.label, {"type": "string", "pattern": names.LABEL_PATTERN})
IFNAME = Text(
    "an interface's name", names.interface, {"type": "string", "pattern": names.INTERFACE_PATTERN}
)
CARRIER = Text(
    "an interface's name, or `lo`",
    names.carrier,
    {"type": "string", "pattern": names.INTERFACE_PATTERN},
)
VARIABLE = Text(
    "a variable's name", names.variable, {"type": "string", "pattern": names.VARIABLE_PATTERN}
)
USERNAME = Text("a user's name", names.user, {"type": "string", "pattern": names.USER_PATTERN})
PATH = Text("an absolute path", units.absolute_path, {"type": "string", "pattern": "^/"})
FILE_PATH = Text("a path", units.text, {"type": "string"})
PORT = Text("a port", units.port, {"type": ["integer", "string"]})
ENDPOINT = Text("a port, as `80` or `53/udp`", units.endpoint, {"type": ["integer", "string"]})
PROTOCOL = choice("tcp or udp", ("tcp", "udp"))
PREFIXED = Text("an address", units.prefixed, {"type": "string"})
ADDRESS = Text("an address", units.address, {"type": "string"})
MAC = Text("a MAC address", units.mac, {"type": "string", "pattern": units.MAC_PATTERN})
SUBNET = Text("a subnet", units.network, {"type": "string"})
MTU = Text(
    "a number of bytes",
    partial(units.between, 68, 65535),
    {"type": "integer", "minimum": 68, "maximum": 65535},
)
SIZE = Text("a size", units.size, {"type": ["integer", "string"], "pattern": units.SIZE_PATTERN})
DURATION = Text(
    "a time", units.duration, {"type": ["number", "string"], "pattern": units.DURATION_PATTERN}
)
OFFSET = Text(
    "a time, also below zero",
    units.signed_duration,
    {"type": ["number", "string"], "pattern": units.DURATION_PATTERN},
)
ID = Text("a number", partial(units.between, 0, 2**32 - 2), {"type": "integer", "minimum": 0})
MODE = Text("an octal mode", units.mode, {"type": ["integer", "string"]})
STATUS = Text("an exit status", partial(units.between, 0, 255), {"type": "integer"})
CAPABILITY = Text(
    "a capability",
    capabilities.capability,
    {"type": "string", "pattern": "^[A-Za-z_]+$"},
    sorted(capabilities.ALL),
)
UNIT = Text("a unit's name", job_forms.unit, {"type": "string"})
UNITS_WORD = Text(
    "a unit's name, or true for what is enabled",
    job_forms.enabled_or_unit,
    {"type": ["string", "boolean"]},
)
ENVIRONMENT = MapOf(VARIABLE, TEXT)
CPU_TIME = Text("a number", units.number, {"type": "number", "exclusiveMinimum": 0})
PIDS = Text("a number", partial(units.between, 1, 2**22), {"type": "integer"})

"""`Condition…=` and `Assert…=`: kept as data, for init judges them where it starts the job."""

from __future__ import annotations

from hostlab.spec.job import Requirement
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.unit import Reader

KINDS = (
    "PathExists", "PathExistsGlob", "PathIsDirectory", "PathIsSymbolicLink", "PathIsMountPoint",
    "PathIsReadWrite", "PathIsEncrypted", "PathIsSocket", "DirectoryNotEmpty", "FileNotEmpty",
    "FileIsExecutable", "NeedsUpdate", "FirstBoot", "Architecture", "Firmware", "Virtualization",
    "Host", "KernelCommandLine", "KernelVersion", "Version", "Credential", "Security",
    "Capability", "ACPower", "Memory", "CPUFeature", "CPUs", "Environment", "User", "Group",
    "ControlGroupController", "OSRelease", "MemoryPressure", "CPUPressure", "IOPressure",
    "KernelModuleLoaded",
)  # fmt: skip
"""What there is to ask (systemd.unit(5), "Conditions and asserts")."""
UNJUDGED = frozenset(
    {"Firmware", "CPUFeature", "ControlGroupController", "KernelModuleLoaded", "MemoryPressure",
     "CPUPressure", "IOPressure"}
)  # fmt: skip
"""Those that are about a machine and not about a node; they hold."""
_PATHS = frozenset(kind for kind in KINDS if kind.startswith(("Path", "Directory", "File")))


def requirements_of(reader: Reader) -> tuple[Requirement, ...]:
    """Every condition and assertion of a unit.

    An empty assignment to any condition takes back all conditions, so the order of all of them
    counts and not that of one key.
    """
    found: list[Requirement] = []
    for entry in reader.unit.entries:
        asserted = entry.key.startswith("Assert")
        kind = entry.key.removeprefix("Assert" if asserted else "Condition")
        if entry.section != "Unit" or kind == entry.key or kind not in KINDS:
            continue
        if not entry.value:
            found = [each for each in found if each.asserted is not asserted]
            continue
        value = entry.value
        triggering = value.startswith("|")
        value = value[triggering:].lstrip()
        negated = value.startswith("!")
        value = value[negated:].lstrip()
        try:
            value = reader.specify(value)
            if kind in _PATHS and not value.startswith("/"):
                raise Wrong("a path here is absolute")
        except Wrong as wrong:
            reader.wrong(entry, wrong)
            continue
        found.append(
            Requirement(
                kind=kind,
                value=value,
                negated=negated,
                triggering=triggering,
                asserted=asserted,
            )
        )
    return tuple(found)

"""What units say of their processes, as the processes themselves see it, in a node."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hostlab.sync import Node
from tests.netns.init.test_systemctl import Ran
from tests.netns.lab.lab_site import site

pytestmark = pytest.mark.netns

UNITS: dict[str, tuple[str, str]] = {
    "directories": (
        "User=nobody\nRuntimeDirectory=d/e\nStateDirectory=s\nStateDirectoryMode=0700\n"
        "CacheDirectory=c\nLogsDirectory=l\nConfigurationDirectory=conf",
        'stat -c "%%a %%U" $STATE_DIRECTORY $RUNTIME_DIRECTORY;'
        " echo $RUNTIME_DIRECTORY $STATE_DIRECTORY $CACHE_DIRECTORY $LOGS_DIRECTORY"
        " $CONFIGURATION_DIRECTORY; touch $STATE_DIRECTORY/x $RUNTIME_DIRECTORY/x",
    ),
    "identity": (
        "User=daemon\nGroup=adm\nSupplementaryGroups=tty mail\nUMask=0027\nWorkingDirectory=/var\n"
        "Nice=5\nLimitNOFILE=100:200\nOOMScoreAdjust=500",
        "id -un; id -gn; id -Gn; umask; pwd; nice; ulimit -Sn; ulimit -Hn;"
        " cat /proc/self/oom_score_adj",
    ),
    "environment": (
        "Environment='A=1 2' B=two C=3\nEnvironmentFile=/etc/vars\nEnvironmentFile=-/no/such\n"
        "UnsetEnvironment=C\nUser=daemon",
        'echo "$A|$B|$C|$D|$USER|$HOME"',
    ),
    "protect-system": (
        "ProtectSystem=full\nReadOnlyPaths=/srv",
        "for each in /usr /etc /srv /var /opt; do"
        " touch $each/probe 2> /dev/null && echo w $each || echo r $each; done",
    ),
    "strict": (
        "ProtectSystem=strict\nStateDirectory=strict\nReadWritePaths=/srv/w -/no/such\n"
        "PrivateTmp=yes\nProtectHome=yes\nInaccessiblePaths=/etc/secret /etc/secrets\n"
        "WorkingDirectory=-/no/such",
        "for each in /etc /var /run /srv /srv/w /var/lib/strict /tmp; do"
        " touch $each/probe 2> /dev/null && echo w $each || echo r $each; done;"
        " cat /etc/secret /etc/secrets/of; ls -A /root /etc/secrets; pwd; echo > /dev/null",
    ),
    "private-tmp": (
        "PrivateTmp=yes",
        "ls /tmp | wc -l; echo x > /tmp/mine; ls /tmp",
    ),
    "capabilities": (
        "CapabilityBoundingSet=CAP_CHOWN CAP_NET_BIND_SERVICE\nNoNewPrivileges=yes",
        "grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status",
    ),
    "ambient": (
        "User=daemon\nAmbientCapabilities=CAP_NET_BIND_SERVICE",
        "grep -E 'CapEff|CapAmb' /proc/self/status",
    ),
    "nowhere": ("StandardOutput=null", "echo unseen"),
    "root": ("RootDirectory=/srv/root", "/bin/pwd; ls /"),
}
"""Name -> what its unit says, the script that it runs."""


def description() -> str:
    files = ""
    for name, (said, script) in UNITS.items():
        lines = [
            "[Service]",
            "Type=oneshot",
            *said.splitlines(),
            f"ExecStart=/bin/sh /etc/scripts/{name}",
        ]
        if name == "root":
            lines[-1] = "ExecStart=/bin/busybox sh -c 'pwd; ls /'"
        files += f"      /etc/systemd/system/{name}.service: |\n"
        files += "".join(f"        {line}\n" for line in lines)
        files += f"      /etc/scripts/{name}: |\n        {script.replace('%%', '%')}\n"
    files += "      /srv/w/x: x\n      /etc/secret: secret\n      /etc/secrets/of: secret\n"
    files += "      /root/mine: x\n"
    files += '      /etc/vars: |\n        B=file\n        D="four words of it"\n'
    return f"nodes:\n  box:\n    units: []\n    files:\n{files}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with (
        pytest.MonkeyPatch.context() as patched,
        site(tmp_path_factory.mktemp("lab"), patched) as place,
    ):
        found = place.up(description()).nodes()["box"]
        found.wait_settled(within_s=60)
        yield found


def said(node: Node, name: str) -> list[str]:
    """What a unit's script has printed."""
    ran = Ran(node, f"systemctl start {name}")
    assert ran.status == 0, ran
    return Ran(node, f"journalctl -q -u {name} -o cat").out.splitlines()


needs_users = pytest.mark.skipif(os.geteuid() != 0, reason="here: only root's lab has users")


@needs_users
def test_directories_are_made_and_belong_to_the_user(node: Node) -> None:
    assert said(node, "directories") == [
        "700 nobody",
        "755 nobody",
        "/run/d/e /var/lib/s /var/cache/c /var/log/l /etc/conf",
    ]
    assert Ran(node, "test -e /run/d/e; echo $?; test -e /var/lib/s/x; echo $?").out == "1\n0\n"


@needs_users
def test_identity_and_limits(node: Node) -> None:
    found = said(node, "identity")
    assert found[:2] == ["daemon", "adm"]
    assert set(found[2].split()) == {"adm", "tty", "mail"}
    assert found[3:] == ["0027", "/var", "5", "100", "200", "500"]


@needs_users
def test_environment(node: Node) -> None:
    assert said(node, "environment") == ["1 2|file||four words of it|daemon|/usr/sbin"]


def test_what_is_protected_cannot_be_written(node: Node) -> None:
    assert said(node, "protect-system") == ["r /usr", "r /etc", "r /srv", "w /var", "w /opt"]
    assert Ran(node, "touch /usr/probe /etc/probe /srv/probe").status == 0, "only by the unit"


def test_nothing_can_be_written_but_what_is_said(node: Node) -> None:
    writable = ("/srv/w", "/var/lib/strict", "/tmp")
    places = ("/etc", "/var", "/run", "/srv", *writable)
    expected = [f"{'w' if place in writable else 'r'} {place}" for place in places]
    found = said(node, "strict")
    assert found[: len(places)] == expected
    assert "cat: /etc/secrets/of: No such file or directory" in found
    assert "secret" not in found, "what is hidden is empty"
    assert "mine" not in found
    assert "/" in found


def test_a_tmp_of_its_own(node: Node) -> None:
    node.succeed("touch /tmp/of-the-node")
    assert said(node, "private-tmp") == ["0", "mine"]
    assert Ran(node, "ls /tmp").out == "of-the-node\n"


def test_capabilities_are_bounded(node: Node) -> None:
    bits = f"{1 << 0 | 1 << 10:016x}"
    assert [line.split() for line in said(node, "capabilities")] == [
        ["CapEff:", bits],
        ["CapBnd:", bits],
        ["NoNewPrivs:", "1"],
    ]


@needs_users
def test_ambient_capabilities(node: Node) -> None:
    bits = f"{1 << 10:016x}"
    assert [line.split() for line in said(node, "ambient")] == [
        ["CapEff:", bits],
        ["CapAmb:", bits],
    ]


def test_output_that_goes_nowhere(node: Node) -> None:
    assert said(node, "nowhere") == []


def test_a_root_of_its_own(node: Node) -> None:
    if Ran(node, "test -x /bin/busybox").status:
        pytest.skip("no busybox for a small root")
    node.succeed("mkdir -p /srv/root/bin; cp /bin/busybox /srv/root/bin/")
    assert said(node, "root") == ["/", "bin"]

"""What people have, staged: scripts of each shell, directories, dumps, nft files, and garbage."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlab.firewall import beside, listing
from hostlab.firewall.listing import chains
from hostlab.firewall.source import read_source
from hostlab.firewall.stage import Stage, StageNode
from hostlab.firewall.staged import Staged, stage_source
from hostlab.firewall.target import Target, TargetInterface, TargetRoute
from hostlab.firewall.troubles import Blame
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

TARGET = Target(
    interfaces=(
        TargetInterface(name="wan0", addresses=("203.0.113.10/24", "2001:db8::10/64")),
        TargetInterface(name="lan-guest", addresses=("10.0.0.1/24",)),
    ),
    routes=(TargetRoute(to="0.0.0.0/0", via="203.0.113.1", interface="wan0"),),
)
NOTEBOOK = """\
iptables -P FORWARD DROP
iptables -t nat -A POSTROUTING -s 192.168.0.0/24 -j MASQUERADE
iptables -N SSH
iptables -A SSH -p tcp --dport ssh -j ACCEPT
iptables -A INPUT -i lo -j ACCEPT
iptables -A OUTPUT -o lo -j ACCEPT
iptables -A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
iptables -A FORWARD -j SSH
"""
NOTEBOOK_SAVED = {
    "nat": """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 192.168.0.0/24 -j MASQUERADE
COMMIT
""",
    "filter": """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:SSH - [0:0]
-A INPUT -i lo -j ACCEPT
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j SSH
-A OUTPUT -o lo -j ACCEPT
-A SSH -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
""",
}
SHELLS = ("sh", "bash", "zsh")


RESET = """
nft flush ruleset
ipset destroy
for tool in iptables-legacy ip6tables-legacy; do
    $tool -F; $tool -X; $tool -P INPUT ACCEPT
done
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StageNode]]:
    """One node for most, and one for what cannot be taken back."""
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("stage") / "run"))
        with Stage(TARGET, ("usual", "spoilt")) as found:
            for node in found.nodes.values():
                node.shell("true")
            yield found.nodes


@pytest.fixture
def stage(
    nodes: dict[str, StageNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Staged]]:
    """Stages a text, or what is at a path; afterwards all that it did beside rules is undone."""
    monkeypatch.chdir(tmp_path)
    node = nodes["usual"]
    before = beside.look(node.execute, node.pid)
    done: list[Staged] = []

    def staged(text: str | Path, name: str = "rules.sh", **options: Any) -> Staged:
        if isinstance(text, str):
            (tmp_path / name).write_text(text)
            text = Path(name)
        chosen = nodes[options.pop("node", "usual")]
        chosen.shell(RESET)
        done.append(stage_source(chosen, read_source(str(text)), **options))
        return done[-1]

    yield staged
    for each in reversed(done):
        for operation in reversed(each.operations):
            if operation.kind is not beside.Kind.MAIN:
                undone = node.execute(operation.undo)
                assert not undone.status, (operation, undone.stderr)
    assert beside.look(node.execute, node.pid) == before


def told(staged: Staged) -> list[str]:
    return [
        f"{each.place.file}:{each.place.line}: {each.message}" if each.place else each.message
        for each in staged.troubles
        if each.blame is not Blame.REMARK
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_notebooks_commands_give_its_listing(stage: Callable[..., Staged], shell: str) -> None:
    staged = stage(f"#!/bin/{shell}\n{NOTEBOOK}")
    assert not told(staged)
    assert staged.ruleset.iptables in (
        NOTEBOOK_SAVED["nat"] + NOTEBOOK_SAVED["filter"],
        NOTEBOOK_SAVED["filter"] + NOTEBOOK_SAVED["nat"],
    )
    assert not staged.operations


@pytest.fixture
def rule_directory(tmp_path: Path) -> Path:
    """The notebook's: rule files, `main` lines, forwarding, both families."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "00-base").write_text(NOTEBOOK + "ip6tables -P FORWARD DROP\n")
    (rules / "10-guests").write_text(
        "main ip addr add 192.168.15.1/24 dev lan-guest\n"
        "iptables -A FORWARD -i lan-guest -j SSH\n"
        "ip6tables -A FORWARD -i lan-guest -p tcp --dport 22 -j ACCEPT\n"
    )
    (rules / "20-forward").write_text("echo 1 > /proc/sys/net/ipv4/ip_forward\n")
    (rules / "30-old~").write_text("iptables -F\n")
    return rules


@pytest.mark.parametrize("shell", SHELLS)
def test_the_notebooks_directory(
    stage: Callable[..., Staged], rule_directory: Path, shell: str
) -> None:
    first = rule_directory / "00-base"
    first.write_text(f"#!/bin/{shell}\n{first.read_text()}")
    staged = stage(rule_directory)
    assert not told(staged)
    assert "-A FORWARD -i lan-guest -j SSH\n" in staged.ruleset.iptables
    assert "-A FORWARD -i lan-guest -p tcp" in staged.ruleset.ip6tables
    assert ":FORWARD DROP" in staged.ruleset.ip6tables
    shown = [(str(each.kind), each.describe()) for each in staged.operations]
    assert shown == [
        ("sysctl", "sysctl -qw net.ipv4.ip_forward=1"),
        ("main", "ip addr add 192.168.15.1/24 dev lan-guest"),
    ]
    forwarding, address = staged.operations
    assert forwarding.undo == ("sysctl", "-qw", "net.ipv4.ip_forward=0")
    assert address.undo == ("ip", "addr", "delete", "192.168.15.1/24", "dev", "lan-guest")
    assert forwarding.place is not None
    assert (forwarding.place.file, forwarding.place.line) == (f"{rule_directory}/20-forward", 1)
    assert address.place is not None
    assert (address.place.file, address.place.line)[1] == 1
    assert any("30-old~" in each.message for each in staged.troubles)


@pytest.mark.parametrize("shell", SHELLS)
def test_an_error_in_a_directorys_middle_has_its_place(
    stage: Callable[..., Staged], rule_directory: Path, shell: str
) -> None:
    first = rule_directory / "00-base"
    first.write_text(f"#!/bin/{shell}\n{first.read_text()}")
    middle = rule_directory / "10-guests"
    middle.write_text(middle.read_text() + "iptables -A FORWARD -p tcp --dport sssh -j SSH\n")
    staged = stage(rule_directory)
    assert staged.exit_code == 2
    (trouble,) = (each for each in staged.troubles if each.blame is Blame.RULESET)
    assert trouble.place is not None
    assert trouble.place.file == str(middle)
    assert trouble.place.line == 4
    assert trouble.message.startswith("invalid port/service `sssh' specified")


BUSY = """
set -u
IPT=/sbin/iptables
fail2ban=no
ipt() { $IPT "$@"; }
allow() {
  for port in "$@"; do
    ipt -A INPUT -p tcp --dport $port -j ACCEPT
  done
}
$IPT -N X 2>/dev/null || true
$IPT -D INPUT 9 || $IPT -L X >/dev/null
if ! $IPT -C INPUT -j X 2>/dev/null; then $IPT -A INPUT -j X; fi
ipt -A INPUT -m comment --comment "a 'b' c" -j NOSUCH
allow 22 80 \\
   443
iptables-restore --noflush <<EOF
*nat
-A POSTROUTING -j MASQUERADE
-A POSTROUTING -j FOO
COMMIT
EOF
/sbin/modprobe nf_conntrack_ftp
echo "all is well"
nosuchcommand -x
nft add rule ip x y accept
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_failures_have_the_line_of_who_called(stage: Callable[..., Staged], shell: str) -> None:
    staged = stage(f"#!/bin/{shell}{BUSY}")
    places = [line.partition(": ")[0] for line in told(staged)]
    assert places == [f"rules.sh:{line}" for line in (14, 20, 25, 26)], told(staged)
    (remark,) = (e for e in staged.troubles if "as the script allows" in e.message)
    assert remark.place is not None
    assert remark.place.line == 12
    assert staged.ruleset.iptables.count("--dport") == 3
    assert staged.output == "all is well\n"
    assert staged.exit_code == 2


@pytest.mark.parametrize("shell", SHELLS)
def test_set_e_ends_a_script_where_it_fails(stage: Callable[..., Staged], shell: str) -> None:
    staged = stage(f"#!/bin/{shell} -e\niptables -N A\niptables -N A\niptables -N B\n")
    assert told(staged) == ["rules.sh:3: Chain already exists."]
    assert ":A -" in staged.ruleset.iptables
    assert ":B -" not in staged.ruleset.iptables


@pytest.mark.parametrize("shell", SHELLS)
def test_a_syntax_error_has_its_line(stage: Callable[..., Staged], shell: str) -> None:
    staged = stage(f"#!/bin/{shell}\niptables -N A\nif true; then\n  iptables -N B\n}}\n")
    (line,) = told(staged)
    assert line.startswith(("rules.sh:5: ", "rules.sh:6: ")), line
    assert staged.exit_code == 2


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("to", ["2>/tmp/said", ">/tmp/said 2>&1", "2>&1"])
def test_a_script_that_moves_its_standard_error_is_followed(
    stage: Callable[..., Staged], shell: str, to: str
) -> None:
    staged = stage(f"#!/bin/{shell}\niptables -N A\nexec {to}\niptables -A A -j NONE\nexit 0\n")
    (line,) = told(staged)
    if shell == "bash":  # whose trace stays where it was
        assert line.startswith("rules.sh:4: failed with status 2; standard error is ")
    else:
        assert line == "rules.sh:4: Chain 'NONE' does not exist"


def test_standard_error_that_is_closed(stage: Callable[..., Staged]) -> None:
    text = "#!/bin/{}\nexec 2>/dev/null\niptables -A INPUT -j NONE\nexit 0\n"
    assert told(stage(text.format("bash"))) == [
        "rules.sh:3: failed with status 2; standard error is /dev/null here"
    ]
    staged = stage(text.format("sh"))
    assert not told(staged)
    assert any("rules.sh:2 closes standard error" in each.message for each in staged.troubles)


@pytest.mark.parametrize("shell", SHELLS)
def test_main_may_be_the_scripts_own(stage: Callable[..., Staged], shell: str) -> None:
    text = 'main() {\n  iptables -N "$1"\n  iptables -A NONE -j DROP\n}\nmain A\n'
    staged = stage(f"#!/bin/{shell}\n{text}")
    assert not staged.operations
    assert ":A -" in staged.ruleset.iptables
    assert [line.partition(": ")[0] for line in told(staged)] == ["rules.sh:4"]


def test_what_only_the_machine_has_is_refused(stage: Callable[..., Staged]) -> None:
    staged = stage(
        "#!/bin/sh\nsysctl -w net.netfilter.nf_conntrack_max=9\nsysctl -w kernel.panic=1\n"
        "echo 1 > /proc/sys/kernel/panic\nmain sysctl -w kernel.panic=1\nservice ssh status\n"
        "/etc/init.d/ssh restart\nexit 0\n"
    )
    assert {each.blame for each in staged.troubles} == {Blame.REFUSED}
    assert sorted(line.partition(": ")[0] for line in told(staged)) == [
        f"rules.sh:{line}" for line in (2, 3, 4, 7)
    ]
    assert [each.describe() for each in staged.operations] == ["sysctl -w kernel.panic=1"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_that_no_shell_can_read_has_a_place(
    stage: Callable[..., Staged], shell: str
) -> None:
    for text in ("iptables ))\n", "iptables $(", "\nif true; then 'x"):
        staged = stage(f"#!/bin/{shell}\n{text}")
        assert staged.exit_code == 2
        assert told(staged)[0].startswith("rules.sh:"), staged.troubles


def test_arguments_and_neighbours(stage: Callable[..., Staged], tmp_path: Path) -> None:
    (tmp_path / "ports").write_text("22 443\n")
    (tmp_path / "lib.sh").write_text("open_port() {\n  iptables -A INPUT -p $2 --dport $1\n}\n")
    text = (
        '#!/bin/sh\ncd "$(dirname "$0")"\n. ./lib.sh\n[ "$1" = start ] || exit 1\n'
        "for p in $(cat ports); do open_port $p tcp; done\nopen_port x tcp\n"
    )
    staged = stage(text, arguments=("start",))
    assert told(staged) == ["./lib.sh:2: invalid port/service `x' specified"]
    assert staged.ruleset.iptables.count("--dport") == 2


def test_all_variants_and_sets(stage: Callable[..., Staged]) -> None:
    staged = stage(
        "#!/bin/sh\nipset create bad hash:net\nipset add bad 192.0.2.0/24\n"
        "iptables -A INPUT -m set --match-set bad src -j DROP\n"
        "iptables-legacy -A INPUT -p udp -j DROP\nip6tables-legacy -P INPUT DROP\n"
        "nft add table inet mine\n"
    )
    assert not told(staged)
    found = staged.ruleset
    assert "add bad 192.0.2.0/24" in found.ipset
    assert "--match-set bad src -j DROP" in found.iptables
    assert "-A INPUT -p udp -j DROP" in found.legacy_iptables
    assert ":INPUT DROP" in found.legacy_ip6tables
    assert found.nft == "table inet mine {\n}\n"


def test_what_a_script_does_beside_rules(stage: Callable[..., Staged]) -> None:
    staged = stage(
        "#!/bin/sh\nsysctl -qw net.ipv4.conf.all.rp_filter=1\n"
        "ip address add 10.9.9.1/24 dev wan0\nip route add 10.10.0.0/16 via 10.9.9.2\n"
        "ip -6 route add 2001:db8:1::/48 via 2001:db8::1\nip rule add fwmark 1 lookup 100\n"
        "ip link set wan0 mtu 1400\nip link set lan-guest down\n"
    )
    assert not told(staged)
    shown = [(each.describe(), each.place.line if each.place else 0) for each in staged.operations]
    assert shown == [
        ("sysctl -qw net.ipv4.conf.all.rp_filter=1", 2),
        ("ip link set dev lan-guest down", 8),
        ("ip link set dev wan0 mtu 1400", 7),
        ("ip address add 10.9.9.1/24 dev wan0", 3),
        ("ip -4 route add 10.10.0.0/16 via 10.9.9.2 dev wan0", 4),
        ("ip -6 route add 2001:db8:1::/48 via 2001:db8::1 dev wan0 metric 1024 pref medium", 5),
        ("ip -4 rule add pref 32765 from all fwmark 0x1 lookup 100", 6),
    ]


DUMP = (
    "*filter\n:INPUT DROP [3:180]\n-A INPUT -p {} -m {} --{}-type echo-request -j ACCEPT\nCOMMIT\n"
)
V4, V6 = DUMP.format("icmp", "icmp", "icmp"), DUMP.format("ipv6-icmp", "icmp6", "icmpv6")


@pytest.mark.parametrize(
    "text",
    [
        V4 + V6,
        f"# Generated by iptables-save v1.8.9\n{V4}# Generated by ip6tables-save v1.8.9\n{V6}",
    ],
)
def test_dumps_of_both_families_in_one_file(stage: Callable[..., Staged], text: str) -> None:
    staged = stage(text, "rules")
    assert not told(staged)
    assert "--icmp-type 8 -j ACCEPT" in staged.ruleset.iptables
    assert "--icmpv6-type 128 -j ACCEPT" in staged.ruleset.ip6tables


def test_a_dumps_error_has_its_line(stage: Callable[..., Staged]) -> None:
    bad = V6.replace("COMMIT", "-A INPUT -s 2001:db8::/129 -j DROP\nCOMMIT")
    staged = stage(V4 + bad, "rules")
    (line,) = told(staged)
    assert line.startswith("rules:8: ")
    assert "129" in line


def test_nft_files_with_includes_variables_sets_and_maps(
    stage: Callable[..., Staged], tmp_path: Path
) -> None:
    (tmp_path / "defines.nft").write_text("define wan = wan0\ndefine ports = { 22, 443 }\n")
    text = (
        '#!/usr/sbin/nft -f\ninclude "defines.nft"\nflush ruleset\ntable inet f {\n'
        "  set bad { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }\n"
        "  map to { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.2 } }\n"
        "  chain in {\n    type filter hook input priority 0; policy drop;\n"
        "    iifname $wan tcp dport $ports accept\n    ip saddr @bad drop\n  }\n"
        "  chain pre {\n    type nat hook prerouting priority -100;\n"
        "    dnat ip to tcp dport map @to\n  }\n}\n"
    )
    staged = stage(text, "rules.nft")
    assert not told(staged)
    assert 'iifname "wan0" tcp dport { 22, 443 } accept' in staged.ruleset.nft
    assert "dnat ip to tcp dport map @to" in staged.ruleset.nft
    wrong = text.replace("@bad drop", "@none drop")
    assert told(stage(wrong, "rules.nft"))[0].startswith("rules.nft:10: No such file or directory")
    (tmp_path / "defines.nft").write_text("define wan = wan0\ndefine ports = { 22, x443 }\n")
    (line,) = told(stage(text, "rules.nft"))
    assert "defines.nft:2: " in line


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "table inet f {\n  flowtable ft {\n    hook ingress priority 0; devices = { wan0 };\n"
            "  }\n}\n",
            "flowtables",
        ),
        ("#!/bin/sh\niptables -A INPUT -j LED --led-trigger-id x\n", "target LED"),
        ("#!/bin/sh\niptables -A INPUT -m geoip --src-cc CN -j DROP\n", "match geoip"),
        ("#!/bin/sh\nipset create macs hash:mac\n", "set type hash:mac"),
        ("*filter\n-A INPUT -j ULOG\nCOMMIT\n", "target ULOG"),
        ("#!/bin/sh\nip link add d0 type gre local 10.0.0.1 remote 10.0.0.2\n", "gre devices"),
    ],
)
def test_what_this_kernel_lacks_is_named(
    stage: Callable[..., Staged], text: str, what: str
) -> None:
    staged = stage(text, "rules")
    if not staged.exit_code:
        pytest.skip(f"here: the kernel has {what}")
    (trouble,) = (each for each in staged.troubles if each.blame is not Blame.REMARK)
    assert trouble.message.startswith(f"this machine has no {what}: ")
    assert trouble.hint
    assert staged.exit_code == 3


def test_a_script_reaches_nothing_of_the_machine(
    stage: Callable[..., Staged], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        staged = stage(
            f"#!/bin/bash\nif exec 3<>/dev/tcp/127.0.0.1/{port}; then echo reached; fi\n"
            f"touch {tmp_path}/made /etc/hostlab-was-here\n"
            "cp rules.sh /usr/local/sbin/hostlab-was-here\n"
            "echo 1 > /proc/sys/kernel/panic || true\n"
            "systemctl restart ssh\nmount -t tmpfs none /mnt\nmodprobe ip_tables\n"
            """awk 'BEGIN { print 1 > "/etc/hostlab-by-awk" }'\n""",
            node="spoilt",
        )
    assert "reached" not in staged.output
    assert not (tmp_path / "made").exists()
    assert not Path("/etc/hostlab-was-here").exists()
    assert not Path("/usr/local/sbin/hostlab-was-here").exists()
    refused = {
        (each.place.line, each.message.split()[0])
        for each in staged.troubles
        if each.blame is Blame.REFUSED and each.place
    }
    assert refused == {
        (3, "/etc/hostlab-was-here"),
        (4, "/usr/local/sbin/hostlab-was-here"),
        (5, "/proc/sys/kernel/panic:"),
        (6, "`systemctl"),
        (7, "`mount"),
        (9, "/etc/hostlab-by-awk"),
    }
    assert staged.exit_code == 2


@pytest.mark.parametrize("shell", SHELLS)
def test_which_line_made_which_rule(stage: Callable[..., Staged], shell: str) -> None:
    staged = stage(
        f"""#!/bin/{shell}
drop_all() {{
  for tool in iptables ip6tables; do
    $tool -A INPUT -j DROP
  done
}}
ipt() {{ iptables "$@"; }}
ipt -A INPUT -i lo -j ACCEPT
ipt -I INPUT -m comment --comment "first -A of all" -j ACCEPT
drop_all
ipt -D INPUT -i lo -j ACCEPT
iptables-restore --noflush <<EOF
*filter
:MINE - [0:0]
-A MINE -p tcp -j ACCEPT
-I MINE -j DROP
COMMIT
EOF
nft -f - <<EOF
table inet f {{
  chain c {{
    tcp dport {{ 22, 80 }} accept
    drop
  }}
}}
EOF
nft insert rule inet f c counter
"""
    )
    assert not told(staged)
    where = staged.places()
    found = {
        (chain.family, chain.name): [
            place.line if (place := where(chain, n)) else None for n in range(1, count + 1)
        ]
        for chain in chains(staged.ruleset)
        if (count := len(chain.rules))
    }
    assert found == {
        ("ip", "INPUT"): [9, 4],
        ("ip6", "INPUT"): [4],
        ("ip", "MINE"): [16, 15],
        ("inet", "c"): [27, 22, 23],
    }
    shown = listing.text(staged.ruleset, where)
    assert "-A MINE -p tcp -j ACCEPT  # rules.sh:15\n" in shown
    assert "\t\ttcp dport { 22, 80 } accept  # rules.sh:22\n" in shown


def test_loops_and_floods_are_ended(stage: Callable[..., Staged]) -> None:
    staged = stage("#!/bin/sh\niptables -N A\nwhile :; do\n  sleep 9\ndone\n", time_limit_s=0.5)
    (line,) = told(staged)
    assert line.startswith("rules.sh:4: it was ended here")
    assert ":A -" in staged.ruleset.iptables
    line, *_ = told(stage("#!/bin/sh\nyes\n"))
    assert "wrote more than" in line


def test_what_a_script_leaves_running_is_ended(
    stage: Callable[..., Staged], nodes: dict[str, StageNode]
) -> None:
    assert not told(stage("#!/bin/sh\n(sleep 86399; iptables -F) &\niptables -N A\n"))
    found = nodes["usual"].shell("cat /proc/[0-9]*/cmdline").stdout.split(b"\0")
    assert b"86399" not in found

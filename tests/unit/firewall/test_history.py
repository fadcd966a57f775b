"""What was confirmed, what takes it back, and what is loaded at boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.errors import Failed, UsageError
from hostlab.firewall import history
from hostlab.firewall.beside import Kind, Operation, sysctl
from hostlab.firewall.change import Phase
from hostlab.firewall.ruleset import Ruleset
from tests.unit.firewall.change_site import NEW, OLD, a_change

pytestmark = pytest.mark.unit

ADDRESS = Operation(
    kind=Kind.ADDRESS,
    subject="eth0",
    do=("ip", "address", "add", "192.0.2.1/24", "dev", "eth0"),
    undo=("ip", "address", "delete", "192.0.2.1/24", "dev", "eth0"),
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOSTLAB_STATE", str(tmp_path / "state"))
    return tmp_path


def test_a_change_is_noted_once() -> None:
    for began in (1.0, 1.0, 2.0):
        history.note(a_change(phase=Phase.CONFIRMED, began=began))
    assert [(each.number, each.began) for each in history.entries()] == [(1, 1.0), (2, 2.0)]
    assert history.entry(2).before == OLD
    with pytest.raises(UsageError, match="no change 3"):
        history.entry(3)


def test_old_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_ENTRIES", 3)
    for number in range(5):
        history.note(a_change(began=float(number)))
    assert [each.number for each in history.entries()] == [3, 4, 5]


def test_what_several_changes_did_beside_rules_is_undone_once_and_in_order() -> None:
    first = (sysctl("a", "0", "1"), ADDRESS)
    second = (sysctl("a", "1", "2"), sysctl("b", "0", "1"))
    for began, operations in enumerate((first, second)):
        history.note(a_change(began=float(began), operations=operations))
    assert [each.describe() for each in history.undoing(1)] == [
        "sysctl -qw b=0",
        "ip address delete 192.0.2.1/24 dev eth0",
        "sysctl -qw a=0",
    ]
    assert [each.describe() for each in history.undoing(2)] == ["sysctl -qw b=0", "sysctl -qw a=1"]


def test_a_part_that_is_empty_now_does_not_come_back_at_boot(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, nft = state / "rules.v4", state / "nftables.conf"
    monkeypatch.setattr(history, "NFT_FILE", str(nft))
    monkeypatch.setattr(history, "IPTABLES_FILES", {str(rules): ("iptables", "legacy_iptables")})
    legacy = Ruleset(legacy_iptables="*filter\nCOMMIT\n", nft=NEW.nft)
    assert history.persist(legacy) == [str(nft), str(rules)]
    assert rules.read_text() == legacy.legacy_iptables
    assert "delete table inet new\ntable inet new {" in nft.read_text()
    assert "flush ruleset" not in nft.read_text()
    history.persist(Ruleset())
    assert (rules.read_text(), "table" in nft.read_text()) == ("", False)
    nft.write_text("flush ruleset\n")
    assert history.persist(Ruleset()) == [str(rules)]
    with pytest.raises(Failed, match="rules of both"):
        history.persist(Ruleset(iptables="*filter\nCOMMIT\n", legacy_iptables="*filter\nCOMMIT\n"))

"""The audit: silent when nothing is left, exact when something is, of one mind with a witness."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hostlab.lab import audit
from tests.netns.cli.cli_site import ROOT, on_machine_of_its_own

pytestmark = pytest.mark.netns

WITNESS = ROOT.parent / "shared/tools/machine-state"


def test_after_down_nothing_is_left() -> None:
    done = on_machine_of_its_own(
        """
        hostlab audit
        hostlab up examples/hello.yaml >/dev/null
        hostlab audit
        hostlab down hello >/dev/null
        hostlab audit
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "nothing of any lab is left",
        "hello is running in /run/hostlab/hello",
        "nothing else of any lab is left",
        "nothing of any lab is left",
    ]


@pytest.mark.parametrize("is_removed", [False, True], ids=["", "run directory removed"])
def test_a_lab_without_its_hub_is_listed_whole(is_removed: bool) -> None:
    remove = "rm -r /run/hostlab" if is_removed else ""
    done = on_machine_of_its_own(
        f"""
        hostlab up examples/hello.yaml >/dev/null
        pid=$(hostlab status hello --json | $PYTHON -c 'import json, sys
        print(json.load(sys.stdin)["pid"])' | tr -d ' ')
        hub=$(awk '/^PPid/ {{print $2}}' /proc/$pid/status)
        {remove}
        end $pid $hub
        hostlab audit --json || echo "exit $?"
        hostlab down hello >/dev/null
        hostlab audit
        """.replace("\n        print", "\nprint")
    )
    assert done.returncode == 0, done.stderr
    text, _, rest = done.stdout.partition("exit 1\n")
    found = json.loads(text)
    assert found["running"] == []
    kinds = {one["kind"] for one in found["left"]}
    assert {one["lab"] for one in found["left"]} == {"hello"}
    assert {one["remedy"] for one in found["left"]} == {"hostlab down hello"}
    assert "process" in kinds
    assert ("run directory" in kinds) is not is_removed
    assert rest == "nothing of any lab is left\n"


@pytest.mark.parametrize(
    ("make", "kind", "what"),
    [
        (
            "mkdir -p /run/hostlab && touch /run/hostlab/.gone.lock",
            "lock",
            "/run/hostlab/.gone.lock",
        ),
        ("mkdir -p /run/hostlab/gone", "run directory", "/run/hostlab/gone"),
        (
            "mkdir -p /run/hostlab/gone/root && mount -t tmpfs none /run/hostlab/gone/root",
            "mount",
            "/run/hostlab/gone/root",
        ),
        (
            "ip link add br9 type bridge && ip link property add dev br9 altname hostlab:gone:lan",
            "link",
            "hostlab:gone:lan",
        ),
        ("mkdir -p /run/hostlab", "run directory", "/run/hostlab"),
        (
            """
            mkfifo /run/keep/ready /run/keep/never; exec 9<>/run/keep/never
            $PYTHON -c 'import os
mark = os.memfd_create("hostlab:gone")
open("/run/keep/ready", "w").close()
os.read(9, 1)' &
            cat /run/keep/ready
            """,
            "process",
            None,
        ),
    ],
)
def test_each_kind_of_leftover_is_named(make: str, kind: str, what: str | None) -> None:
    done = on_machine_of_its_own(
        f"""
        {make}
        hostlab audit --json || [ $? = 1 ]
        """
    )
    assert done.returncode == 0, done.stderr
    left = {(one["kind"], one["what"]) for one in json.loads(done.stdout)["left"]}
    if what is None:
        assert {one[0] for one in left} == {kind}
    else:
        assert (kind, what) in left


def test_what_somebody_stages_now_is_not_left() -> None:
    """Its lock is held; `down`, as a remedy, would take it away as soon as it stands.

    It may be below another `HOSTLAB_RUN`: whoever stages it has nothing open there but the lock.
    """
    done = on_machine_of_its_own(
        """
        mkdir -p /run/other/half/nodes
        mkfifo /run/keep/ready /run/keep/never; exec 9<>/run/keep/never
        $PYTHON -c 'import fcntl, os
mark = os.memfd_create("hostlab:half")
lock = open("/run/other/.half.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
open("/run/keep/ready", "w").close()
os.read(9, 1)' &
        cat /run/keep/ready
        hostlab audit
        hostlab audit --json
        kill $!
        """
    )
    assert done.returncode == 0, done.stderr + done.stdout
    first, second, rest = done.stdout.split("\n", 2)
    assert first == "half is being staged or taken down in /run/other/half"
    assert second == "nothing else of any lab is left"
    found = json.loads(rest)
    assert found["changing"] == [{"name": "half", "directory": "/run/other/half"}]
    assert (found["running"], found["left"]) == ([], [])


def test_what_comes_or_goes_between_two_looks_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    going, stays, coming = (audit.Remnant("x", "process", what, "") for what in ("1", "2", "3"))
    ended = audit.Remnant("x", "process", "2 (x, a zombie)", "")
    looks = iter([(going, stays), (ended, coming)])
    monkeypatch.setattr(audit, "_look", lambda: audit.Audit((), (), next(looks)))
    assert audit.audit().left == (ended,)


def test_what_is_other_peoples_is_not_listed() -> None:
    done = on_machine_of_its_own(
        """
        ip link add hostlab0 type bridge
        ip link property add dev hostlab0 altname hostlab-lan
        other=$(mktemp -d /tmp/hostlab-XXXXXX); trap 'rmdir "$other"' EXIT
        mkdir /run/hostlab-other
        hostlab audit
        """
    )
    assert (done.returncode, done.stdout) == (0, "nothing of any lab is left\n"), done.stderr


def test_what_has_changed_since_is_named() -> None:
    done = on_machine_of_its_own(
        """
        hostlab audit --save /run/keep/before
        hostlab audit --since /run/keep/before
        ip link add other0 type bridge
        left=$(mktemp /tmp/left-XXXXXX); trap 'rm "$left"' EXIT
        mkdir /run/made; mount -t tmpfs none /run/made
        status=0; hostlab audit --since /run/keep/before >/run/keep/out || status=$?
        sed "s,$left,/tmp/left," /run/keep/out; echo "exit $status"
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "everything is as it was when /run/keep/before was written",
        "+ link: other0 bridge",
        "+ mount: /run/made tmpfs none",
        "+ file: /run/made",
        "+ file: /tmp/left",
        "exit 1",
    ]


@pytest.mark.skipif(not WITNESS.exists(), reason="the witness is not here")
def test_audit_and_witness_agree() -> None:
    done = on_machine_of_its_own(
        """
        cat > /run/keep/life <<'END'
        set -e
        $PYTHON -m hostlab.cli.main up examples/hello.yaml
        $PYTHON -m hostlab.cli.main check hello
        $PYTHON -m hostlab.cli.main down hello
        $PYTHON -m hostlab.cli.main audit
END
        hostlab audit --save /run/keep/before
        $PYTHON $WITNESS run sh /run/keep/life
        hostlab audit --since /run/keep/before
        hostlab up examples/hello.yaml
        $PYTHON $WITNESS save /run/keep/witness
        hostlab down hello
        ! $PYTHON $WITNESS diff /run/keep/witness >/dev/null
        """,
        WITNESS=str(WITNESS),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    lines = done.stdout.splitlines()
    assert "2 of 2 checks hold" in lines
    assert "nothing of any lab is left" in lines
    assert "everything is as it was when /run/keep/before was written" in lines


def test_labs_of_one_name_in_two_places_are_two() -> None:
    done = on_machine_of_its_own(
        """
        umount /sys/fs/cgroup 2>/dev/null || :
        hostlab up examples/hello.yaml >/dev/null
        export HOSTLAB_RUN=/run/other
        hostlab down --all
        hostlab down hello
        hostlab up examples/hello.yaml >/dev/null
        hostlab down --all | cut -d ' ' -f 1-3
        unset HOSTLAB_RUN
        hostlab check hello
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["no lab is up", "hello was not up", "hello is down"]
    assert "2 of 2 checks hold" in done.stdout


def test_a_lab_in_a_node_is_that_nodes_business() -> None:
    if Path(sys.prefix).is_relative_to("/tmp"):
        pytest.skip("here: hostlab is below /tmp, and a node has a /tmp of its own")
    done = on_machine_of_its_own(
        """
        cat > /run/keep/outer.yaml <<'END'
name: outer
nodes: {deep: {nesting: true}}
END
        cp examples/hello.yaml /run/keep/hello.yaml
        hostlab up /run/keep/outer.yaml >/dev/null
        hostlab cp /run/keep/hello.yaml deep:/etc/hello.yaml
        inner() { hostlab exec -e PYTHONPATH=$PYTHONPATH outer/deep -- \\
            $PYTHON -m hostlab.cli.main "$@"; }
        inner up /etc/hello.yaml >/dev/null
        inner check hello >/dev/null
        hostlab down hello
        hostlab audit
        inner audit
        hostlab down --all | cut -d ' ' -f 1-3
        hostlab audit
        """
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines() == [
        "hello was not up",
        "outer is running in /run/hostlab/outer",
        "nothing else of any lab is left",
        "hello is running in /run/hostlab/hello",
        "nothing else of any lab is left",
        "outer is down",
        "nothing of any lab is left",
    ]

"""Task namespaces on a machine of their own: the audit, other users, delegation in pure v2."""

from __future__ import annotations

import json

import pytest

from tests.netns.cli.cli_site import NOBODY, on_machine_of_its_own, plain_users_python

pytestmark = pytest.mark.netns


def script(text: str) -> list[str]:
    """Run it; `plain` is hostlab for a plain user. What it printed, line by line."""
    python, path = plain_users_python()
    plain = f"""
    plain() {{ PYTHONPATH={path} HOME=/run/home setpriv --reuid {NOBODY} --regid {NOBODY} \\
        --clear-groups {python} -m hostlab.cli.main "$@"; }}
    mkdir /run/home; chown {NOBODY} /run/home
    """
    done = on_machine_of_its_own(plain + text)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()


def test_a_namespace_is_no_remnant_but_what_is_left_of_one_is() -> None:
    lines = script(
        """
        hostlab task one init --logs /run/keep/logs
        hostlab task one run nap sleep 300
        hostlab audit
        hostlab task one stop nap
        # Its keeper clears away in its own time; this waits, or does it.
        hostlab task one release nap 2>/dev/null || :
        rm -r /run/hostlab-tasks
        hostlab audit --json >/run/keep/left || echo "exit $?"
        tr -d '\\n' </run/keep/left; echo
        eval "$($PYTHON -c 'import json
print(json.load(open("/run/keep/left"))["left"][0]["remedy"])')"
        hostlab audit
        mkdir -p /run/hostlab-tasks/two
        hostlab audit | cut -d ' ' -f 1-3
        """
    )
    assert lines[:3] == [
        "task namespace one is in /run/hostlab-tasks/one, 1 tasks run",
        "nothing else of any lab is left",
        "exit 1",
    ]
    (left,) = json.loads(lines[3])["left"]
    assert (left["lab"], left["kind"]) == ("one", "cgroup")
    assert left["remedy"] == "hostlab task one init; hostlab task one release"
    assert lines[4] == "nothing of any lab is left"
    assert lines[6].startswith("run directory")


def test_a_lock_whose_holder_was_killed_is_named_and_goes() -> None:
    lines = script(
        """
        mkdir -p /run/hostlab-tasks
        touch /run/hostlab-tasks/.three.lock
        hostlab audit --json >/run/keep/left || echo "exit $?"
        tr -d '\\n' </run/keep/left; echo
        eval "$($PYTHON -c 'import json
print(json.load(open("/run/keep/left"))["left"][0]["remedy"])')"
        hostlab audit
        """
    )
    assert lines[0] == "exit 1"
    (left,) = json.loads(lines[1])["left"]
    assert (left["lab"], left["kind"]) == ("three", "lock")
    assert left["what"] == "/run/hostlab-tasks/.three.lock"
    assert lines[2] == "nothing of any lab is left"


def test_in_pure_v2_another_user_gets_keepers_and_is_told() -> None:
    lines = script(
        f"""
        hostlab task two init -u {NOBODY} -g {NOBODY} --logs /run/keep/logs 2>&1
        plain task two run -c 'touch /run/home/told' nap sleep 300
        hostlab task two ls | sed 's/ *[0-9][0-9]* / PID /'
        hostlab task two run other true || echo "exit $?"
        hostlab task two stop nap
        plain task two check nap || echo "exit $?"
        plain task two release 2>&1 || echo "exit $?"
        hostlab task two release
        hostlab audit
        """
    )
    assert lines[0].startswith(f"warning: user {NOBODY} can have no cgroup here")
    assert lines[1:5] == ["two", " ├ nap", " │  → PID sleep 300", " ╯"]
    assert lines[5:] == [
        "exit 3",
        "exit 1",
        "hostlab: unable to delete namespace two: root has made it",
        "  hint: sudo hostlab task two release",
        "exit 3",
        "nothing of any lab is left",
    ]


def test_in_pure_v2_a_user_has_cgroups_in_what_was_delegated() -> None:
    lines = script(
        f"""
        mkdir -p /sys/fs/cgroup/session/shell
        for file in . cgroup.procs cgroup.subtree_control shell shell/cgroup.procs; do
            chown {NOBODY} /sys/fs/cgroup/session/$file
        done
        echo $$ >/sys/fs/cgroup/session/shell/cgroup.procs
        plain task own init --logs /run/home/logs
        plain task own run nap sleep 300
        pid=$(plain task own dump | grep -o '"pid": [0-9]*' | cut -d ' ' -f 2)
        grep -o 'session/hostlab/tasks:own:.*' /proc/$pid/cgroup | sed 's/own:[0-9a-f]*/own:MARK/'
        echo $$ >/sys/fs/cgroup/cgroup.procs
        plain task own run other true 2>&1 || echo "exit $?"
        plain task own stop nap
        plain task own release
        find /sys/fs/cgroup/session -name 'hostlab*'
        rmdir /sys/fs/cgroup/session/shell /sys/fs/cgroup/session
        """
    )
    assert lines[0] == "session/hostlab/tasks:own:MARK/task-nap"
    assert "this shell is outside of what was delegated to you: Permission denied" in lines[1]
    assert lines[3:] == ["exit 3"]


def test_users_that_are_none_and_users_that_may_not() -> None:
    lines = script(
        """
        hostlab task bad init -u nobody-of-that-name 2>&1 || echo "exit $?"
        hostlab task bad init -g nobody-of-that-name 2>&1 || echo "exit $?"
        hostlab task bad/ init 2>&1 | head -n 1
        plain task bad init -u root 2>&1 | head -n 1
        hostlab task roots init --logs /run/keep/logs
        hostlab task roots run nap sleep 300
        plain task roots check nap && echo it runs
        plain task roots stop nap 2>&1 | head -n 1
        plain task roots run other true 2>&1 | head -n 1
        plain task roots init 2>&1 | head -n 1
        hostlab task roots stop nap
        hostlab task roots release
        hostlab audit
        """
    )
    assert lines == [
        "hostlab: unable to find user nobody-of-that-name",
        "exit 2",
        "hostlab: unable to find group nobody-of-that-name",
        "exit 2",
        "hostlab: namespace should be an alphanumeric ASCII string, not 'bad/'",
        "hostlab: a namespace for another user or group takes root",
        "it runs",
        "hostlab: unable to stop task nap: namespace roots is of user 0",
        "hostlab: unable to run task other: namespace roots is of user 0",
        "hostlab: namespace roots exists and is of user 0, group 0",
        "nothing of any lab is left",
    ]


def test_a_full_disk_is_said_and_leaves_nothing() -> None:
    lines = script(
        """
        mkdir /run/small; mount -t tmpfs -o size=64k none /run/small
        export HOSTLAB_RUN=/run/small/run
        hostlab task small init --logs /run/keep/logs
        head -c 1M /dev/zero >/run/small/fill 2>/dev/null || :
        hostlab task small run -c 'echo never' full sleep 300 2>&1 | head -n 1
        hostlab task small ls
        hostlab task small run full true && echo without a record
        rm /run/small/fill
        hostlab task small release
        """
    )
    assert lines == [
        "hostlab: /run/small/run-tasks/small/tasks: No space left on device",
        "small",
        " ╯",
        "without a record",
    ]

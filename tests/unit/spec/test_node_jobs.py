"""What each key of a job means, and what cannot be meant."""

from __future__ import annotations

import subprocess
import textwrap
from typing import Any

import pytest

from hostlab.errors import SpecError, SpecErrors
from hostlab.jobs.command import command
from hostlab.spec import Boot, BootEvent, Node, load
from hostlab.spec.condition import parse_condition
from hostlab.spec.job import (
    UNLIMITED,
    Console,
    Expect,
    Job,
    Kill,
    KillMode,
    Process,
    Readiness,
    ResourceLimit,
    Resources,
    Respawn,
    Said,
)
from hostlab.spec.job_tables import JOB
from hostlab.spec.node_jobs import is_script
from tests.unit.spec.described import described

pytestmark = pytest.mark.unit


def node_of(keys: str) -> Node:
    return load(f"nodes: {{a: {keys}}}\n", file="lab.yaml").node("a")


def job_of(keys: str) -> Job:
    (job,) = node_of(f"{{jobs: {{j: {{exec: x, {keys}}}}}}}").jobs
    return job


def errors_of(text: str) -> tuple[SpecError, ...]:
    with pytest.raises(SpecErrors) as caught:
        load(textwrap.dedent(text).lstrip("\n"), file="lab.yaml")
    return caught.value.errors


def one_of(text: str) -> tuple[int, int, str]:
    (error,) = errors_of(text)
    assert error.where is not None
    return error.where.line, error.where.column, error.message


MEANT: list[tuple[str, dict[str, Any]]] = [
    ("start_on: started db and (a or b)",
     {"start_on": parse_condition("started db and (a or b)"),
      "said": (Said(stanza="start on", file="lab.yaml", line=1),)}),
    ("stop_on: stopping db",
     {"stop_on": parse_condition("stopping db"),
      "said": (Said(stanza="stop on", file="lab.yaml", line=1),)}),
    ("manual: true", {"manual": True, "start_on": None}),
    ("manual: false", {}),
    ("task: true", {"task": True}),
    ("instance: $TTY", {"instance": "$TTY"}),
    ("export: [A, B]", {"export": ("A", "B")}),
    ("emits: 'log*'",
     {"emits": ("log*",),
      "said": (Said(stanza="emits", file="lab.yaml", line=1, words=("log*",)),)}),
    ("pre_start: mkdir /run/x", {"pre_start": Process(exec="mkdir /run/x")}),
    ("post_start: [a, b c]", {"post_start": Process(argv=("a", "b c"))}),
    ("pre_stop: {script: a}", {"pre_stop": Process(script="a")}),
    ("post_stop: {exec: [a, b]}", {"post_stop": Process(argv=("a", "b"))}),
    ("respawn: true", {"respawn": Respawn(enabled=True)}),
    ("respawn: false", {}),
    ("respawn: {limit: 3, interval: 1m}",
     {"respawn": Respawn(enabled=True, limit=3, interval_s=60)}),
    ("respawn: {limit: unlimited, delay: 2s}",
     {"respawn": Respawn(enabled=True, limit=0, delay_min_s=2, delay_max_s=2)}),
    ("respawn: {delay: [100ms, 1m]}",
     {"respawn": Respawn(enabled=True, delay_min_s=0.1, delay_max_s=60)}),
    ("respawn: {delay: {min: 1, max: 2}}",
     {"respawn": Respawn(enabled=True, delay_min_s=1, delay_max_s=2)}),
    ("readiness: notify", {"readiness": Readiness(kind=Expect.NOTIFY)}),
    ("readiness: {expect: daemon, within: 10s}",
     {"readiness": Readiness(kind=Expect.DAEMON, deadline_s=10)}),
    ("readiness: {port: 80}", {"readiness": Readiness(kind=Expect.PORT, port=80)}),
    ("readiness: {file: /run/x}", {"readiness": Readiness(kind=Expect.FILE, path="/run/x")}),
    ("readiness: {fd: 3, within: 1}", {"readiness": Readiness(kind=Expect.FD, fd=3, deadline_s=1)}),
    ("kill: {signal: INT, timeout: 30s, mode: mixed}",
     {"kill": Kill(signal=2, timeout_s=30, mode=KillMode.MIXED)}),
    ("kill: {signal: 40}", {"kill": Kill(signal=40, mode=KillMode.CONTROL_GROUP)}),
    ("reload_signal: SIGUSR1", {"reload_signal": 10}),
    ("normal_exit: [0, 3, TERM]", {"normal_exit": (0, 3, 15 << 8)}),
    ("console: none", {"console": Console.NONE}),
    ("nice: -5", {"nice": -5}),
    ("oom_score_adj: -1000", {"oom_score_adj": -1000}),
    ("umask: '027'", {"umask": 0o27}),
    ("groups: adm", {"groups": ("adm",)}),
    ("chroot: /srv/root", {"chroot": "/srv/root"}),
    ("private_tmp: true", {"private_tmp": True}),
    ("read_only: [/etc, /usr]", {"readonly_paths": ("/etc", "/usr")}),
    ("tcp_congestion: bbr", {"tcp_congestion": "bbr"}),
    ("apparmor: web", {"apparmor_switch": "web"}),
    ("apparmor: {load: /etc/apparmor.d/web}",
     {"security": Process(exec="/sbin/apparmor_parser -r -W /etc/apparmor.d/web")}),
    ("debug: true", {"debug": True}),
    ("description: a server", {"description": "a server"}),
    ("usage: TTY - which", {"usage": "TTY - which"}),
    ("limits: {memory: 1M, cpu: 0.5, pids: 9}",
     {"resources": Resources(memory_bytes=2**20, cpu=0.5, pids=9)}),
    ("rlimits: {nofile: 1024, core: [0, unlimited], memlock: 1M}",
     {"limits": (ResourceLimit(resource="nofile", soft=1024, hard=1024),
                 ResourceLimit(resource="core", soft=0, hard=UNLIMITED),
                 ResourceLimit(resource="memlock", soft=2**20, hard=2**20))}),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "fields"), MEANT, ids=[keys for keys, _ in MEANT])
def test_what_a_key_means(keys: str, fields: dict[str, Any]) -> None:
    assert job_of(keys) == described("j", exec="x", **fields)


NOT_SAID = {
    **dict.fromkeys(
        (
            "commands",
            "environment_files",
            "directories",
            "reload",
            "after",
            "requires",
            "listens",
            "writable_paths",
            "hidden_paths",
            "main_is_root",
            "requirements",
        ),
        "what a systemd unit says",
    ),
    "reads": "what a routing daemon reads is made of `routing`",
    "inert_capset": "what a routing daemon of FRR needs",
    "author": "a comment of the file",
    "version": "a comment of the file",
    "inherit": "init's own environment is no part of a description",
    "cgroups": "`limits` says what a cgroup may use, whatever the controllers are called",
    "said": "where it stands is known",
    "name": "it is the key above",
}


def test_a_description_can_say_all_that_a_job_can() -> None:
    named = {key.name for key in JOB.keys}
    other_names = {
        "argv": "exec",
        "security": "apparmor",
        "apparmor_switch": "apparmor",
        "limits": "rlimits",
        "resources": "limits",
        "readonly_paths": "read_only",
    }
    for field in Job.__struct_fields__:
        assert field in NOT_SAID or other_names.get(field, field) in named, field


def test_a_script_of_several_lines() -> None:
    lab = load(
        textwrap.dedent("""
            nodes:
              a:
                jobs:
                  j:
                    script: |
                      cd /srv
                      exec web
                    start_on:
                      started db
                      and net-device-up IFACE=eth0
        """),
        file="lab.yaml",
    )
    (job,) = lab.node("a").jobs
    assert job.script == "cd /srv\nexec web\n"
    assert job.start_on == parse_condition("started db and net-device-up IFACE=eth0")
    assert job.said == (Said(stanza="start on", file="lab.yaml", line=9),)


@pytest.mark.parametrize(
    "keys", ["start_on: x", "manual: true", "pre_start: x", "post_stop: {script: x}"]
)
def test_a_job_without_a_program_is_a_state(keys: str) -> None:
    (job,) = node_of(f"{{jobs: {{j: {{{keys}}}}}}}").jobs
    assert (job.exec, job.script, job.argv) == (None, None, ())


@pytest.mark.parametrize(
    ("role", "node", "job"),
    [
        ("exec: x, start_on: b", "manual: true",
         described("j", exec="x", start_on=None, manual=True)),
        ("exec: x, manual: true", "start_on: b",
         described("j", exec="x", start_on=parse_condition("b"),
                   said=(Said(stanza="start on", file="lab.yaml", line=2),))),
        ("exec: [a, b]", "exec: [c]", described("j", argv=("c",))),
        ("exec: a", "script: b", described("j", script="b")),
        ("exec: x, pre_start: a", "pre_start: {script: b}",
         described("j", exec="x", pre_start=Process(script="b"))),
        ("exec: x, respawn: true", "respawn: {limit: 2}",
         described("j", exec="x", respawn=Respawn(enabled=True, limit=2))),
        ("exec: x, respawn: false", "respawn: {limit: 2}",
         described("j", exec="x", respawn=Respawn(enabled=True, limit=2))),
        ("exec: x, respawn: {delay: [1, 2]}", "respawn: {delay: [3, 4]}",
         described("j", exec="x",
                   respawn=Respawn(enabled=True, delay_min_s=3, delay_max_s=4))),
        ("exec: x, readiness: {port: 80, within: 5}", "readiness: notify",
         described("j", exec="x", readiness=Readiness(kind=Expect.NOTIFY, deadline_s=5))),
        ("exec: x, rlimits: {core: [0, 1]}", "rlimits: {core: [2, 3]}",
         described("j", exec="x", limits=(ResourceLimit(resource="core", soft=2, hard=3),))),
    ],
)  # fmt: skip
def test_a_nodes_word_is_laid_over_its_roles(role: str, node: str, job: Job) -> None:
    lab = load(
        f"roles: {{r: {{jobs: {{j: {{{role}}}}}}}}}\n"
        f"nodes: {{a: {{role: r, jobs: {{j: {{{node}}}}}}}}}\n",
        file="lab.yaml",
    )
    assert lab.node("a").jobs == (job,)


def test_nodes_of_a_role_have_one_job_between_them_unless_their_boot_differs() -> None:
    lab = load(
        "roles: {r: {jobs: {j: x}}}\n"
        "nodes: {a: {role: r, count: 2}, b: {role: r, boot: {startup_event: go}}}\n",
        file="lab.yaml",
    )
    one, two, other = (node.jobs[0] for node in lab.nodes)
    assert one is two
    assert other.start_on == parse_condition("go")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("^j: {user: x}", "has no `exec`"),
        ("^j: {stop_on: x}", "has no `exec`"),
        ("j: {exec: a, ^script: b}", "only one of `exec`, `script`"),
        ("j: {exec: ^''}", "this command is empty"),
        ("j: {exec: ^[]}", "this command is empty"),
        ("j: {script: ^' '}", "this script is empty"),
        ("j: {exec: x, ^pre_start: {}}", "`pre-start` has neither `exec` nor `script`"),
        ("j: {exec: x, pre_stop: {exec: a, ^script: b}}", "only one of"),
        ("j: {exec: x, start_on: a, ^manual: true}", "only one of"),
        ("j: {exec: x, start_on: a b=c ^d}", "expected variable"),
        ("j: {exec: x, start_on: 'a and  (b or ^)'}", "expected event"),
        ('j: {exec: x, stop_on: "^and b"}', "expected event"),
        ("j: {exec: x, stop_on: a ^(b)}", "expected operator before '('"),
        ("j: {exec: x, stop_on: ^((a)}", "mismatched parentheses: never closed"),
        ("j: {exec: x, stop_on: a^)}", "mismatched parentheses: never opened"),
        ("j: {exec: x, stop_on: 'a^\\'}", "trailing slash"),
        ("j: {exec: x, emits: [^a b]}", "is not an event's name"),
        ("j: {exec: x, export: ^1}", "is not a variable"),
        ("j: {exec: x, respawn: {limit: ^x}}", "is not a whole number"),
        ("j: {exec: x, respawn: {delay: ^[1, 2, 3]}}", "a delay is `[MIN, MAX]`"),
        ("j: {exec: x, respawn: {delay: ^[2, 1]}}", "the longest delay is below the first"),
        ("j: {exec: x, readiness: {^within: 5}}", "nothing is said that it must be within"),
        ("j: {exec: x, readiness: {port: 80, ^fd: 3}}", "only one of"),
        ("j: {exec: x, readiness: ^often}", "is none of"),
        ("j: {exec: x, kill: {signal: ^TREM}}", "is not a signal"),
        ("j: {exec: x, kill: {signal: ^0}}", "is not a signal"),
        ("j: {exec: x, kill: {signal: ^65}}", "is not a signal"),
        ("j: {exec: x, normal_exit: ^256}", "is neither an exit status nor a signal"),
        ("j: {exec: x, nice: ^20}", "is not between -20 and 19"),
        ("j: {exec: x, umask: ^0o1777}", "is not a umask"),
        ("j: {exec: x, rlimits: {^files: 1}}", "is none of"),
        ("j: {exec: x, rlimits: {core: ^[2, 1]}}", "the soft limit is above the hard one"),
        ("j: {exec: x, rlimits: {core: ^[unlimited, 1]}}", "the soft limit is above"),
        ("j: {exec: x, rlimits: {core: ^[1]}}", "one value or `[SOFT, HARD]`"),
        ("j: {exec: x, rlimits: {core: ^-1}}", "is not a limit"),
    ],
)
def test_what_cannot_be_meant(said: str, words: str) -> None:
    """`^` is where the error is to be."""
    head = "nodes: {a: {jobs: {"
    line, column, message = one_of(head + said.replace("^", "") + "}}}")
    assert (line, column) == (1, len(head) + said.index("^") + 1), message
    assert words in message


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("|\n  a and (b\n    or\n    c d=e f)\n", (4, 11)),
        (">\n  a and\n  (b or\n  c d=e f)\n", (4, 9)),
        ("a and\n  (b or\n  c d=e f)\n", (3, 9)),
        ("'a and\n  (b or\n\n  c d=e f)'\n", (4, 9)),
        ("!!str 'c d=e f'\n", (1, 1)),
        ("&x 'c d=e f'\n", (1, 1)),
        ('"c d=\\x66 f"\n', (1, 1)),
        ('"c d=e f \\x66"\n', (1, 8)),
    ],
)
def test_an_error_in_a_condition_has_its_place_however_it_is_written(
    said: str, place: tuple[int, int]
) -> None:
    head = "nodes:\n a:\n  jobs:\n   j:\n    exec: x\n    start_on: "
    text = head + textwrap.indent(said, "    ").lstrip()
    (error,) = errors_of(text)
    assert error.where is not None
    line = error.where.line - 5
    column = error.where.column - (14 if line == 1 else 4)
    assert "expected variable" in error.message
    assert (line, column) == place


def test_a_condition_without_end_is_refused() -> None:
    line, column, message = one_of(f"nodes: {{a: {{jobs: {{j: {{start_on: {'x ' * 50_001}}}}}}}}}")
    assert (line, column) == (1, 34)
    assert "longer than 100,000 characters" in message


def test_a_deep_condition_is_read() -> None:
    deep = "(" * 10_000 + "x" + ")" * 10_000
    assert job_of(f"start_on: {deep}").start_on == parse_condition("x")


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("web --port 80", False),
        ("web > /tmp/log 2>&1", False),
        ("web $PORT 'a b'", False),
        ("a | b", False),
        ("a; b", True),
        ("a && b", True),
        ("a || b", True),
        ("a &", True),
        ("a\nb", True),
        ("(a)", True),
        ("X=1 a", True),
        ("cd /srv", True),
        ("exec web $PORT", True),
        ("while true; do a; done", True),
        ("echo 'unclosed", False),
        ("echo " + "a " * 3000, True),
    ],
)
def test_a_command_line_that_is_more_than_one_program_is_a_script(line: str, is_one: bool) -> None:
    assert is_script(line) is is_one
    job = job_running(line)
    assert (job.script if is_one else job.exec) == line


def job_running(line: str) -> Job:
    quoted = line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    (job,) = node_of(f'{{jobs: {{j: "{quoted}"}}}}').jobs
    return job


@pytest.mark.parametrize(
    "line",
    [
        "echo a; echo b",
        "false || echo b",
        "true && echo 'a;b'",
        "A=b env | grep ^A=",
        "cd / && pwd",
        "for x in 1 2; do echo $x; done",
        "exec echo $((1 + 1))",
        "echo a b | tr a-z A-Z",
        "echo a >&2; echo b",
        "echo 'a;b' \"$HOME\"",
        "{ echo a; echo b; }",
        "! false",
    ],
)
def test_a_command_line_does_what_the_shell_does(line: str) -> None:
    job = job_running(line)
    process = Process(exec=job.exec, script=job.script, argv=job.argv)
    environment = {"HOME": "/h o", "PATH": "/usr/bin:/bin"}
    ours = subprocess.run(command(process).argv, capture_output=True, env=environment, check=False)
    theirs = subprocess.run(
        ["/bin/sh", "-e", "-c", line], capture_output=True, env=environment, check=False
    )
    assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode)


@pytest.mark.parametrize(
    ("said", "boot"),
    [
        ("true", Boot()),
        ("false", Boot(events=())),
        ("{runlevel: 3, container: lxc}", Boot(runlevel="3", container="lxc")),
        ("{container: false}", Boot(container=None)),
        ("{events: [filesystem, mounted MOUNTPOINT=/ 'TYPE=a b']}",
         Boot(events=(BootEvent(name="filesystem"),
                      BootEvent(name="mounted",
                                environment=(("MOUNTPOINT", "/"), ("TYPE", "a b")))))),
    ],
)  # fmt: skip
def test_a_nodes_boot(said: str, boot: Boot) -> None:
    assert node_of(f"{{boot: {said}}}").boot == boot


def test_a_job_that_does_not_say_when_starts_on_the_first_event_of_its_node() -> None:
    node = node_of("{boot: {startup_event: go}, jobs: {j: x}}")
    assert node.boot == Boot(startup_event="go")
    assert node.jobs[0].start_on == parse_condition("go")


def test_job_files_are_directories_of_the_node() -> None:
    assert node_of("{job_files: /etc/init}").job_files == ("/etc/init",)
    assert "is not an absolute path" in one_of("nodes: {a: {job_files: [init]}}")[2]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{events: [startup]}", "is emitted before these anyway"),
        ("{events: [a b]}", "is no variable of an event"),
        ("{events: [a 1=b]}", "is not a variable"),
        ("{events: ['']}", "expected token"),
        ("{runlevel: 6}", "is none of"),
        ("maybe", "is neither true nor false"),
    ],
)
def test_a_boot_that_cannot_be(said: str, words: str) -> None:
    assert words in one_of(f"nodes: {{a: {{boot: {said}}}}}")[2]

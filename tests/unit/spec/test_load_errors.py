"""Every error of a file at once, each at its place and with a way out."""

from __future__ import annotations

import textwrap

import pytest

from hostlab.errors import SpecError, SpecErrors
from hostlab.spec import load

pytestmark = pytest.mark.unit


def errors_of(text: str | bytes) -> tuple[SpecError, ...]:
    if isinstance(text, str):
        text = textwrap.dedent(text).lstrip("\n")
    with pytest.raises(SpecErrors) as caught:
        load(text, file="lab.yaml")
    return caught.value.errors


def one(text: str | bytes) -> SpecError:
    errors = errors_of(text)
    assert len(errors) == 1, "\n".join(map(str, errors))
    return errors[0]


def place(error: SpecError) -> tuple[int, int]:
    assert error.where is not None
    return error.where.line, error.where.column


def test_an_unknown_key_is_quoted_with_its_place_and_a_suggestion() -> None:
    error = one("""
        segments: [lan]
        nodes:
          web:
            interfacs: [lan]
    """)
    assert str(error) == (
        "lab.yaml:4:5: unknown key `interfacs` in a node\n"
        "        interfacs: [lan]\n"
        "        ^\n"
        "  hint: did you mean `interfaces`?"
    )


def test_all_errors_of_a_file_come_at_once_in_the_order_of_their_places() -> None:
    errors = errors_of("""
        name: my lab
        segments:
          lan: 10.0.0.1/24
        nodes:
          web:
            intefaces: lan
            limits: {memory: lots, cpu: -1}
            gateway: rooter
            capabilities: {add: [NET_ADMN]}
          router:
        checks:
          - {on: [wbe], listens: 99999}
          - {on: web, http: "http://routr/"}
    """)
    assert [(place(e), e.code, e.hint) for e in errors] == [
        ((1, 7), "value", "did you mean `my-lab`?"),
        ((3, 8), "value", "did you mean `10.0.0.0/24`?"),
        ((6, 5), "unknown-key", "did you mean `interfaces`?"),
        ((7, 22), "value", "write `64M`, `1GiB` or a number of bytes"),
        ((7, 33), "value", None),
        ((8, 14), "unknown-name", "did you mean `router`?"),
        ((9, 26), "value", "did you mean `NET_ADMIN`?"),
        ((12, 11), "unknown-name", "did you mean `web`?"),
        ((12, 26), "value", None),
        ((13, 21), "unknown-name", "did you mean `router`?"),
    ]


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("nodes: [a\n", (1, 10), "did not find expected"),
        ("name: a\n\tnodes: [b]\n", (2, 1), "a tab character that violates indentation"),
        ("name: a: b\n", (1, 8), "mapping values are not allowed"),
        ("name: \x07\n", (1, 7), "U+0007"),
        ("name: a\ud800\n", (1, 8), "U+D800"),
        (b"name: caf\xe9\n", (1, 10), "0xE9"),
        ("", (1, 1), "empty"),
        ("# only this\n", (1, 1), "empty"),
        ("- a\n", (1, 1), "a mapping (lab) belongs here, not a list"),
        ("name: a\n---\nname: b\n", (2, 1), "a second document"),
        ("name: a\nname: b\n", (2, 1), "`name` is here twice, first at lab.yaml:1:1"),
        ("name: !!python/object:os.system x\n", (1, 7), "means nothing here"),
        ("name: *there\n", (1, 7), "nothing is anchored as `&there`"),
        ("nodes: &a [*a]\n", (1, 12), "stands inside what it repeats"),
        ("? [a]\n: b\n", (1, 3), "a list cannot be a key"),
        ("nodes: [" * 200, (1, 257), "nested deeper than 64 levels"),
        ("nodes: " + "[" * 100_000, (1, 71), "nested deeper than 64 levels"),
    ],
)
def test_what_is_not_yaml_has_a_place_too(
    text: str | bytes, at: tuple[int, int], words: str
) -> None:
    error = one(text)
    assert words in error.message
    assert place(error) == at


def test_a_tab_is_named() -> None:
    assert one("nodes:\n\ta:\n").hint == "indent with spaces: YAML does not allow tabs"


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    error = one("\n".join(lines))
    assert "aliases repeat more than 500,000 values" in error.message


def test_an_error_that_an_alias_repeats_is_told_once() -> None:
    error = one("""
        roles:
          a: &a {hostnme: x}
          b: *a
          c: *a
    """)
    assert place(error) == (2, 10)


def test_a_line_and_a_word_of_any_length_are_cut() -> None:
    error = one("nodes: {web: {" + "x" * 100_000 + ": 1}}")
    assert error.where is not None
    assert len(error.where.text) < 250
    assert len(error.message) < 150


def test_no_more_than_a_thousand_errors_are_kept() -> None:
    text = "nodes:\n  a:\n" + "".join(f"    x{n}: 1\n" for n in range(3000))
    errors = errors_of(text)
    assert len(errors) == 1001
    assert errors[-1].message == "and 2000 more errors, not shown"


@pytest.mark.parametrize(
    ("nodes", "at", "words"),
    [
        ("{a: {address: 1}}", (3, 13), "unknown key `address`"),
        ("{a: [lan, wan]}", (3, 18), "no segment `wan`"),
        ("{a: {interfaces: {eth0/1: lan}}}", (3, 26), "not an interface's name"),
        ("{a: {interfaces: {sixteen-letters1: lan}}}", (3, 26), "longer than 15 bytes"),
        ("{a: {interfaces: {eth0: {segment: lan, mac: '03:00:00:00:00:01'}}}}", (3, 52), "group"),
        ("{web_1: lan}", (3, 9), "not a host's name"),
        ("{a: {}, A: {}}", (3, 16), "two nodes would be called `A`"),
        ("{a: {role: nobody}}", (3, 19), "no role `nobody`"),
        ("{a: {gateway: 192.0.2.1}}", (3, 22), "not on a segment of `a`"),
        ("{a: {gateway: a}}", (3, 22), "no segment and subnet in common"),
        ("{a: {routes: 10.9.0.0/16}}", (3, 21), "needs `via` or `interface`"),
        ("{a: {routes: ['10.9.0.0/16 by 10.0.0.2']}}", (3, 22), "`by` is not understood"),
        ("{a: {routes: ['fd09::/64 via 10.0.0.1']}, b: }", (3, 22), "own address"),
        ("{a: {routes: ['fd09::/64 via 10.0.0.2']}, b: }", (3, 22), "cannot lead to the IPv6"),
        ("{a: {sysctls: {vm.swappiness: 1}}}", (3, 23), "the machine's, not a node's"),
        ("{a: {sysctls: {kernel.hostname: x}}}", (3, 23), "a key of its own"),
        ("{a: {files: {etc/motd: x}}}", (3, 21), "not an absolute path"),
        ("{a: {files: {/etc/motd: {mode: '0640'}}}}", (3, 21), "has no content"),
        ("{a: {files: {/etc/motd: {content: a, copy: b}}}}", (3, 45), "only one of"),
        ("{a: {files: {/m: {content: a, mode: '0999'}}}}", (3, 44), "not a file mode"),
        ("{a: {files: {/m: {template: '$x \n'}}}}", (3, 36), "unknown variable `x`"),
        ("{a: {files: {/m: {copy: m}}}}", (3, 32), "cannot be read from here"),
        ("{a: {files: {/m: {content: a, capabilities: cap_net_row+ep}}}}", (3, 52), "capability"),
        ("{a: {users: {Bob: }}}", (3, 21), "not a user's name"),
        ("{a: {users: {bob: 7, eve: 7}}}", (3, 34), "both have the uid 7"),
        ("{a: {volumes: [data]}}", (3, 23), "is not a volume"),
        ("{a: {volumes: ['a:/x', 'b:/x']}}", (3, 31), "has a volume already"),
        ("{a: {volumes: ['a b:/x']}}", (3, 23), "not a name"),
        ("{a: {publish: 0}}", (3, 22), "not a port"),
        ("{a: {publish: '1:2:3:4'}}", (3, 22), "not a port to publish"),
        ("{a: {publish: ['80', '127.0.0.1:80:8080']}}", (3, 29), "both publish 80/tcp"),
        ("{a: {links: b}}", (3, 20), "no node `b`"),
        ("{a: {links: ['b:x', 'c:x']}, b: , c: }", (3, 28), "another link's name"),
        ("{a: {limits: {memory: 0}}}", (3, 30), "not a size"),
        ("{a: {limits: {cpus: 3-1}}}", (3, 28), "counts downwards"),
        ("{a: {namespaces: {net: a}}}", (3, 31), "with itself"),
        ("{a: {namespaces: {net: b}}, b: {namespaces: {net: a}}}", (3, 31), "with itself"),
        ("{a: {namespaces: {net: b}, interfaces: lan}, b: }", (3, 35), "has no interfaces"),
        ("{a: {jobs: {web: {user: x}}}}", (3, 20), "has no `exec`"),
        ("{a: {jobs: {web: ''}}}", (3, 25), "is empty"),
        ("{a: {jobs: {web: {exec: x, namespaces: {pid: z}}}}}", (3, 53), "no node `z`"),
        ("{a: {checks: [{within: 5s}]}}", (3, 22), "expects nothing"),
        ("{a: {checks: [{listens: 80, reaches: b}]}}", (3, 36), "only one of"),
        ("{a: {checks: [{job: {web: running}}]}}", (3, 29), "has no job `web`"),
        ("{a: {checks: [{job: {web: runing}}], jobs: {web: x}}}", (3, 34), "none of"),
        ("{a: {checks: [{listens: 80, within: soon}]}}", (3, 44), "not a time"),
        ("{a: {checks: [{listens: 80, always: 1s, never: 1s}]}}", (3, 48), "only one of"),
        ("{a: {checks: [{file: {is: link}}]}}", (3, 29), "`path` is missing"),
        ("{a: {checks: [{file: {path: /x, is: absent, mode: 600}}]}}", (3, 52), "is absent"),
        ("{a: {checks: [{file: {path: /x, is: fifo, contains: x}}]}}", (3, 50), "only of a file"),
        ("{a: {checks: [{file: {path: /x, is: file, target: x}}]}}", (3, 50), "only of a link"),
        ("{a: {checks: [{sysctl: {forward: 1}}]}}", (3, 32), "not a sysctl"),
        ("{a: {checks: [{http: 'ftp://a/'}]}}", (3, 29), "not a URL of HTTP"),
        ("{a: {checks: [{service: {name: x}}]}}", (3, 32), "expected to be nothing"),
        ("{a: {checks: [{command: {run: x, matches: '('}}]}}", (3, 50), "regular expression"),
        ("{a: {checks: [{package: {name: x, installed: no, version: 1}}]}}", (3, 57), "no version"),
        (
            "{a: {checks: [{interface: {name: e, state: absent, mtu: 99}}]}}",
            (3, 59),
            "has no `mtu`",
        ),
        ("{a: {checks: [{address: 10.0.0.1 dev a/b}]}}", (3, 32), "not an interface's name"),
        ("{a: {checks: [{listens: 80, if: {}}]}}", (3, 40), "says nothing"),
        ("{a: {checks: [{listens: 80, if: {sysctl: {a.b: 1, a.c: 2}}}]}}", (3, 40), "is one thing"),
        ("{a: {seccomp: profile.json}}", (3, 22), "cannot be read from here"),
        ("{a: {count: 0}}", (3, 20), "not between 1"),
        ("{a: {forwarding: 1}}", (3, 25), "neither true nor false"),
        ("{a: {volumes: {source: x}}}", (3, 22), "`target` is missing in a volume"),
        ("{a: {gateway: [10.0.0.2, 10.0.0.3]}}", (3, 33), "a second gateway for IPv4"),
        ("{a: [{name: x, segment: lan}, {name: x, segment: lan}]}", (3, 45), "`x` is here twice"),
        ("{a: {publish: ['0.0.0.0:80:80', '127.0.0.1:80:80']}}", (3, 40), "both publish 80/tcp"),
    ],
)
def test_what_cannot_be_meant(nodes: str, at: tuple[int, int], words: str) -> None:
    text = "name: lab\nsegments: {lan: }\nnodes: " + nodes.replace("\n", "\\n").replace(
        "'$x \\n'", '"$x \\n"'
    )
    errors = errors_of(text)
    assert words in errors[0].message, str(errors[0])
    assert place(errors[0]) == at
    assert errors[0].where is not None
    assert errors[0].where.text == text.splitlines()[2]


def test_a_clash_names_both_places() -> None:
    error = one("""
        segments: {lan: 10.0.0.0/24}
        nodes:
          a: {interfaces: {eth0: {segment: lan, address: 10.0.0.7}}}
          b: {interfaces: {eth0: {segment: lan, address: 10.0.0.7}}}
    """)
    assert error.message == "b's eth0 and a's eth0 (lab.yaml:3:50) both have 10.0.0.7"
    assert place(error) == (4, 50)


def test_macs_clash_too() -> None:
    error = one("""
        segments: [lan]
        nodes:
          a: {interfaces: {eth0: {segment: lan, mac: "02:00:00:00:00:01"}}}
          b: {interfaces: {eth0: {segment: lan, mac: "02:00:00:00:00:01"}}}
    """)
    assert "a's eth0 (lab.yaml:3:46) both have 02:00:00:00:00:01" in error.message


def test_published_ports_clash_across_nodes() -> None:
    error = one("""
        nodes:
          a: {publish: "9000:80"}
          b: {publish: "127.0.0.1:9000:80"}
          c: {publish: "9000:80/udp"}
    """)
    assert error.message == "`b` and `a` (lab.yaml:2:16) both publish 9000/tcp"


def test_more_interfaces_than_a_bridge_has_ports() -> None:
    error = one("segments: {lan: {machine: 10.0.0.1/16}}\nnodes: {a: {count: 1023}}\n")
    assert "has 1,024 interfaces; a bridge has at most 1,023 ports" in error.message
    assert place(error) == (1, 12)


def test_a_subnet_that_is_too_small() -> None:
    error = one("segments: {lan: 10.0.0.0/30}\nnodes: [a, b, c]\n")
    assert error.message == "10.0.0.0/30 of segment `lan` is too small: 1 more need one"


def test_an_address_outside_of_its_segment() -> None:
    error = one("""
        segments: {lan: 10.0.0.0/24}
        nodes: {a: {interfaces: {eth0: {segment: lan, address: 10.0.1.7}}}}
    """)
    assert error.message == "10.0.1.7 is outside of segment `lan`, which has 10.0.0.0/24"


def test_what_a_misspelling_hides_is_not_reported_as_missing() -> None:
    error = one("nodes: {a: {jobs: {web: {exek: x}}}}")
    assert error.hint == "did you mean `exec`?"


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("segments: {lan: [10.0.0.0/24, 10.1.0.0/24]}", (1, 31), "already has 10.0.0.0/24"),
        ("segments: {lan: {subnet: 'fd00::/64', mtu: 576}}", (1, 26), "needs an MTU of 1280"),
        ("segments: {lan: {subnet: 10.0.0.0/24, machine: 10.0.0.255}}", (1, 48), "broadcast"),
        ("roles: {a: {role: b}, b: }", (1, 9), "cannot have roles"),
        ("segments: {a: 10.0.0.0/24, b: 10.0.0.0/24}\nnodes: {n: [a, b]}", (2, 16),
         "n has 10.0.0.1 on two segments"),
    ],
)  # fmt: skip
def test_what_segments_and_roles_cannot_mean(text: str, at: tuple[int, int], words: str) -> None:
    error = one(text)
    assert words in error.message
    assert place(error) == at


def test_a_byte_order_mark_moves_no_place() -> None:
    error = one("\ufeffnam: x")
    assert error.code == "unknown-key"
    assert place(error) == (1, 1)


def test_a_check_may_be_on_a_job_of_a_file() -> None:
    checks = "checks: [{on: a, job: {web: running}}]"
    assert "no job `web`" in one(f"nodes: {{a: }}\n{checks}").message
    assert load(f"nodes: {{a: {{job_files: [/etc/init]}}}}\n{checks}", file="lab.yaml").checks

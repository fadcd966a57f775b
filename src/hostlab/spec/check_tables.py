"""Every key of a check, as `tables` has those of all else."""

from __future__ import annotations

from functools import partial

from hostlab.spec import forms, names, units
from hostlab.spec.check_host_tables import (
    COUNT,
    HOST_KEYS,
    NUMBER,
    REGEXES,
    SHA256,
    TEXTS,
)
from hostlab.spec.probe_tables import (
    AMOUNT,
    DNS,
    NTP,
    OSPF,
    PING,
    SMTP,
    SSH,
    TCP,
    TLS,
    UDP,
    UNIX,
)
from hostlab.spec.routing_tables import peer_name
from hostlab.spec.scalars import (
    ADDRESS,
    DURATION,
    ENDPOINT,
    FLAG,
    MODE,
    PATH,
    PORT,
    PROTOCOL,
    STATUS,
    TEXT,
)
from hostlab.spec.shapes import (
    Forms,
    Key,
    ListOf,
    MapOf,
    Table,
    Text,
    choice,
    names_only,
    under,
)

LISTENS = Table(
    "listens",
    "Something listens on a port of the node. A port alone is enough: `80`, `53/udp`.",
    (
        Key("port", PORT, "The port.", "80"),
        Key("protocol", PROTOCOL, "tcp or udp.", "udp", "tcp"),
        Key("address", ADDRESS, "On this address.", "127.0.0.1", "any"),
    ),
    required=("port",),
)
HTTP = Table(
    "http",
    "A GET from the node is answered. A URL alone is enough.",
    (
        Key("url", Text("a URL", forms.url, {"type": "string", "pattern": "^https?://"}),
            "What to get.", "http://web1/"),
        Key("status", Text("an HTTP status", partial(units.between, 100, 599), {"type": "integer"}),
            "The status it answers with.", "404", "200"),
        Key("body", TEXT, "Something the body contains.", "hello"),
        Key("verify", FLAG, "Whether the certificate must be good.", "false", "true"),
        Key("follow", FLAG, "Whether redirects are followed.", "true", "false"),
        Key("location", TEXT, "Where it redirects to.", "https://web1/"),
        Key("days", AMOUNT, "For how many days its certificate has to be good yet.", "14", "0"),
        Key("resolve", MapOf(TEXT, ADDRESS), "Addresses to take for hosts, as `HOST` or"
            " `HOST:PORT`.", "{www.example: 10.0.0.1}"),
    ),
    required=("url",),
)  # fmt: skip
COMMAND = Table(
    "command",
    "A command in the node ends as it should. A command alone must exit with 0.",
    (
        Key("run", TEXT, "The command line.", "test -e /etc/motd"),
        Key("status", STATUS, "Its exit status.", "1", "0"),
        Key("stdout", TEXTS, "What its output contains, all of it.", "hello"),
        Key("stderr", TEXTS, "What it writes to standard error contains.", "warning"),
        Key("matches", REGEXES, "Regular expressions, each found in its output.", "'^7[.]'"),
        Key("lacks", TEXTS, "What its output does not contain.", "error"),
        Key("above", NUMBER, "Its output is a number above this one.", "0"),
        Key("below", NUMBER, "Its output is a number below this one.", "2000"),
    ),
    required=("run",),
)

FILE_KINDS = ("file", "directory", "link", "socket", "fifo", "device", "absent")
CHECKED_FILE = Table(
    "checked file",
    "A file of the node, as it is. A path alone must be there, whatever it is.",
    (
        Key("path", PATH, "Its path.", "/etc/motd"),
        Key("is", choice("a kind of file", FILE_KINDS), "What it is.", "directory",
            "anything; file with `contains`, link with `target`"),
        Key("mode", MODE, "Permission bits, in octal.", "'0640'"),
        Key("owner", TEXT, "`USER`, `USER:GROUP` or `:GROUP`; names or numbers.", "www-data"),
        Key("contains", TEXTS, "What its first MiB contains, all of it.", "hello"),
        Key("matches", REGEXES, "Regular expressions, each found in its first MiB.", "'^a=1$'"),
        Key("lacks", TEXTS, "What its first MiB does not contain.", "debug"),
        Key("size", COUNT, "Its bytes.", "0"),
        Key("sha256", SHA256, "The SHA-256 of all of it.", "e3b0c44298fc1c149afbf4c8996fb924"
            "27ae41e4649b934ca495991b7852b855"),
        Key("target", TEXT, "Where the link leads, as it is written.", "/run/motd"),
    ),
    required=("path",),
)  # fmt: skip

_SPEAKER = Text("a node or an address", peer_name, {"type": "string"})
_MED = Text("a number", partial(units.between, 0, 2**32 - 1), {"type": "integer"})
BGP_PATHS = Table(
    "BGP paths",
    "What the node's routing daemon has heard of a prefix by BGP, and what it chose.",
    (
        Key("prefix", Text("a prefix", lambda word: str(units.prefix(word)), {"type": "string"}),
            "The prefix, exactly.", "2001:db8:30::1/128"),
        Key(
            "paths",
            Forms(
                sequence=(ListOf(_SPEAKER, alone=False), names_only),
                mapping=(MapOf(_SPEAKER, Forms(scalar=(_MED, None), null=lambda: None,
                                               words="a number")), None),
                words="a list of nodes and addresses, or a mapping from them to numbers",
            ),
            "Who tells of it, these and no others, each with its multi-exit discriminator where "
            "one is said; an empty list is nobody.", "{w1: 102, w2: 101, w3: 100}", "anybody"),
        Key("best", _SPEAKER, "Who told of the path that is chosen.", "w3"),
        Key("next_hop", _SPEAKER, "Where the path that is chosen leads.", "w3"),
        Key("med", _MED, "The multi-exit discriminator of the path that is chosen.", "100"),
    ),
    required=("prefix",),
)  # fmt: skip

_REACH = Text("`HOST`, `HOST:PORT` or `HOST:PORT/udp`", forms.target, {"type": ["string"]})
_ON = ListOf(Text("a node or a role", names.name, {"type": "string"}))


_KIND_KEYS = (
    Key("listens", Forms(scalar=(ENDPOINT, forms.listens), mapping=(LISTENS, None)),
        "Something listens on this port.", "80"),
    Key("http", Forms(scalar=(HTTP.by_word["url"].shape, under("url")), mapping=(HTTP, None)),
        "A GET is answered.", "http://web1/"),
    Key("reaches", _REACH, "The node reaches a port of a host, or without a port gets an echo.",
        "web1:80"),
    Key("not_reaches", _REACH, "The opposite.", "web1:22"),
    Key("command", Forms(scalar=(TEXT, under("run")), mapping=(COMMAND, None)),
        "A command in the node ends as it should.", "test -e /etc/motd"),
    Key("file", Forms(scalar=(PATH, under("path")), mapping=(CHECKED_FILE, None)),
        "A file of the node is there, and is as said.", "/etc/motd"),
    Key("sysctl", MapOf(Text("a sysctl", forms.any_sysctl, {"type": "string"}), TEXT),
        "A kernel parameter of the node has this value.", "{net.ipv4.ip_forward: 1}"),
    Key("job", MapOf(Text("a job's name", forms.job_name, {"type": "string"}),
                     choice("a state", ("running", "stopped", "failed"))),
        "A job of the node is in this state.", "{web: running}"),
    Key("bgp", BGP_PATHS, "What its routing daemon has heard of a prefix by BGP.",
        "{prefix: '2001:db8:30::1/128', best: w3}"),
    Key("bgp_session", MapOf(_SPEAKER, choice("up or down", ("up", "down"))),
        "Whether its BGP sessions with a peer are up.", "{w1: up}"),
    Key("ping", PING, "Hosts answer echoes.", "web1"),
    Key("tcp", TCP, "Ports of hosts take connections, or do not.", "web1:80,443"),
    Key("udp", UDP, "A UDP port answers, or is silent, or refuses.", "ns1:53"),
    Key("dns", DNS, "Name servers answer.", "www.example.com"),
    Key("tls", TLS, "A server speaks TLS with a certificate that is good.", "web1:443"),
    Key("smtp", SMTP, "A mail server takes part in a dialogue, or refuses to.", "mail1"),
    Key("ssh", SSH, "A server of SSH introduces itself.", "web1"),
    Key("ntp", NTP, "A server of NTP has the time.", "clock1"),
    Key("unix", UNIX, "A Unix socket of the node takes a connection.", "/run/app.sock"),
    Key("ospf", OSPF, "The node's neighbours of OSPF are full.", "10.0.0.2"),
    *HOST_KEYS,
)  # fmt: skip
KINDS = tuple(key.name for key in _KIND_KEYS)
_KNOWN_KINDS = f"kinds: {', '.join(sorted(KINDS))}"
_PAGE = "see docs/checks.md"
_OF_HTTP = "it goes under `http`: `http: {url: http://web1/, %s: …}`"
_OF_COMMAND = "it goes under `command`: `command: {run: …, %s: …}`"
_OF_FILE = "it goes under `file`: `file: {path: /etc/motd, %s: …}`"
_MEANT_KINDS = {
    "url": "did you mean `http`? As `http: http://web1/`",
    "get": "did you mean `http`? As `http: http://web1/`",
    "port": "did you mean `listens: 80`, of the node itself, or `tcp: web1:80`, which it reaches?",
    "status": "it goes under what answers: `http: {url: http://web1/, status: 404}`, or `command:"
    " {run: …, status: 1}`",
    **{word: _OF_HTTP % word for word in ("body", "location", "follow", "verify")},
    **{word: _OF_COMMAND % word for word in ("stdout", "stderr")},
    **{word: _OF_FILE % word for word in ("contains", "mode", "owner", "sha256")},
    **dict.fromkeys(("run", "exec", "cmd", "shell"), "did you mean `command`?"),
    "path": "did you mean `file`?",
}
MEANT = {
    **_MEANT_KINDS,
    **dict.fromkeys(("node", "nodes", "host", "hosts", "role", "roles"), "did you mean `on`?"),
    **dict.fromkeys(("timeout", "wait", "retry", "eventually"), "did you mean `within`?"),
    "for": "did you mean `always`?",
    "when": "did you mean `if`?",
    **dict.fromkeys(("title", "description"), "did you mean `name`?"),
}
"""What else people call the keys of a check, and what each goes under."""
CONDITION = Table(
    "condition",
    "What must be so for a check to be asked of a node; looked at once, before it.",
    _KIND_KEYS,
    exclusive=(KINDS,),
    meant=_MEANT_KINDS,
    known=f"{_KNOWN_KINDS}; {_PAGE}",
)
_MODIFIERS = (
    Key("name", TEXT, "What it is called in reports.", "memcached uses almost all memory",
        "what it expects, in one line"),
    Key("if", CONDITION, "It is asked only of nodes where this is so.",
        "{file: /sys/class/net/bond0}", "of all"),
    Key("on", _ON, "The nodes and roles it is about; needed at the top, implied elsewhere.",
        "[web1, clients]"),
    Key("within", DURATION, "How long it may take to become true.", "10s", "5s"),
    Key("always", DURATION, "How long it must go on being true, once it is.", "5s",
        "not at all"),
    Key("never", DURATION, "It must not be true, for this long.", "5s", "may be"),
)  # fmt: skip
CHECK = Table(
    "check",
    "An expectation about nodes: what is expected, where, and how soon.",
    (
        *_KIND_KEYS,
        *_MODIFIERS,
    ),
    exclusive=(KINDS, ("always", "never"), ("within", "never")),
    meant=MEANT,
    known=f"{_KNOWN_KINDS}; beside one: {', '.join(sorted(key.name for key in _MODIFIERS))};"
    f" {_PAGE}",
)

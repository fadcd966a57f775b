"""What went wrong in a stage: which command's fault it is, where it stands, in the tool's words.

A command counts as failed by its status and its own words together: a script may ask (`if`, `||`),
or send them to /dev/null, and is then told as a remark. What the kernel lacks is told apart from
what the ruleset has wrong, and what would change the machine beside its network is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import Place
from hostlab.firewall import lacking
from hostlab.firewall.lacking import HasOption, Lack
from hostlab.firewall.script import MAIN, Ran
from hostlab.firewall.trace import Call, Texts


class Blame(StrEnum):
    """Whose fault a trouble is; the first three end a stage."""

    RULESET = "ruleset"
    KERNEL = "kernel"
    """This machine lacks something that rules name."""
    REFUSED = "refused"
    """A change of the machine that is neither rules nor network."""
    REMARK = "remark"


class Trouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to tell."""

    blame: Blame
    message: str
    place: Place | None = None
    command: str = ""
    """As it ran."""
    said: str = ""
    """The tool's own words, whole."""
    hint: str = ""


RULE_TOOL: Final = re.compile(
    r"((ip6?|arp|eb)tables)(-(legacy|nft))?(-restore)?|xtables-\S+|nft|ipset"
)
_CHATTER: Final = re.compile(
    r"^(Try `\S+ -h' or .*|# Warning: \S+ tables present, use \S+ to see them|)$", re.MULTILINE
)
_FATAL: Final = re.compile(
    r"^(ip6?|arp|eb)tables(-\w+)*( v\S+ \(\w+\))?: (?!Warning)|^Error: |:\d+:\d+-\d+: Error: "
    r"|^ipset v\S+: ",
    re.MULTILINE,
)
_SYSCTL: Final = re.compile(r"^sysctl: (permission denied on key|setting key)", re.MULTILINE)
_SHELLS_OWN: Final = re.compile(r"^(\S+?):(?: line |\s?)(\d+): (.*)$", re.MULTILINE)
_RESTORE_LINE: Final = re.compile(
    r"Error occurred at line: (\d+)|^line (\d+): |: line (\d+) failed|[Ee]rror in line (\d+):",
    re.MULTILINE,
)
_NO_CHAIN: Final = re.compile(r"Chain '(\S+)' does not exist")
_NFT_LINE: Final = re.compile(r"^(\S+?):(\d+):(\d+)-\d+: Error: (.*)$", re.MULTILINE)
_MADE: Final = re.compile(
    r"^(?:\S*/)?(?:ipset (?:-\S+ )*(?:create|-N|n)|ip (?:-\S+ )*l\w* add(?: dev|.* name)?) (\S+)"
)
_NOT_MADE: Final = re.compile(r"Set (\S+) doesn't exist|Cannot find device \"([^\"]+)\"")
_READ_ONLY: Final = re.compile(r"[Rr]ead-only file ?system|Operation not permitted")
NETFILTER_MODULE: Final = re.compile(
    r"(ip6?|nf|nft|xt|x|ipt|ip6t|iptable|ip6table|arp|arpt|ebt|ebtable|nfnetlink)_?\w*|br_netfilter"
)
REFUSED: Final = frozenset(
    {
        *("pkill", "killall", "apt", "apt-get", "dpkg", "yum", "dnf", "crontab", "useradd"),
        *(
            "usermod",
            "passwd",
            "chattr",
            "mkfs",
            "swapon",
            "swapoff",
            "losetup",
            "start-stop-daemon",
        ),
    }
)
"""Commands that change the machine, by whatever they find there."""
MACHINE_HINT: Final = "put `main` before it, and it is carried out on the real machine only"
_QUESTIONS: Final = frozenset(
    {"status", "is-active", "is-enabled", "is-failed", "show", "list-units"}
)


def of_calls(ran: Ran, has: HasOption) -> Iterator[Trouble]:
    """Everything that commands said when they failed, and what their failing did to the script."""
    found: list[Trouble] = []
    moved = ""
    for call in ran.calls:
        found += _of_call(call, ran.texts, has)
        if call.name == "exec" and call.written is not None:
            moved = call.written.errors_to or moved
        elif moved and call.status and not call.said and RULE_TOOL.fullmatch(call.name):
            # bash goes on with its trace where it was; the words are elsewhere.
            message = f"failed with status {call.status}; standard error is {moved} here"
            blame = Blame.REMARK if _is_allowed(call) else Blame.RULESET
            found.append(_trouble(blame, call, call.place, message))
    yield from _consequences(found)
    yield from _of_end(ran, found)


def _consequences(found: Sequence[Trouble]) -> Iterator[Trouble]:
    """What names a set or a device that the kernel could not make is the kernel's fault as well."""
    missing: set[str] = set()
    for each in found:
        if each.blame is Blame.KERNEL and (made := _MADE.search(each.command)):
            missing.add(made[1])
        elif each.blame is Blame.RULESET and (named := _NOT_MADE.search(each.message)):
            name = next(group for group in named.groups() if group)
            if name in missing:
                each = msgspec.structs.replace(each, blame=Blame.KERNEL)
        yield each


def _of_call(call: Call, texts: Texts, has: HasOption) -> Iterator[Trouble]:
    said = _CHATTER.sub("", call.said).strip()
    own = _shells_own(call, said)
    if own is not None:
        yield _of_shell(call, own, texts)
        said = _SHELLS_OWN.sub("", said).strip()
    if not said or _is_refused(call):
        return
    is_tool = bool(RULE_TOOL.fullmatch(call.name))
    has_failed = bool((_FATAL if is_tool else _SYSCTL).search(said))
    if not has_failed and (own is not None or call.status in (0, None)):
        if is_tool and "arning" in said:
            yield _trouble(Blame.REMARK, call, call.place, _first(said))
    elif _is_allowed(call):
        message = f"failed, as the script allows: {_first(said)}"
        yield _trouble(Blame.REMARK, call, call.place, message)
    elif is_tool or call.name in ("ip", "tc"):
        yield from _of_tool(call, said, texts, has)
    elif not is_tool and has_failed:
        message = f"no namespace has this of its own: {_first(said)}"
        yield _trouble(Blame.REFUSED, call, call.place, message, hint=MACHINE_HINT)
    else:
        yield _trouble(Blame.RULESET, call, call.place, _first(said))


def _is_allowed(call: Call) -> bool:
    return call.written is not None and (call.written.is_guarded or call.written.is_silenced)


def _shells_own(call: Call, said: str) -> re.Match[str] | None:
    """What the shell itself says, of a command that it does not find or of its own syntax."""
    if not call.words:
        return _SHELLS_OWN.search(said)
    if call.place is None:
        return None
    name = call.place.file.rpartition("/")[2]
    return next(
        (
            found
            for found in _SHELLS_OWN.finditer(said)
            if found[1].rpartition("/")[2] in (name, "part0", "driver")
        ),
        None,
    )


def _of_shell(call: Call, own: re.Match[str], texts: Texts) -> Trouble:
    """The shell's line is surer than the trace's, which a redirection precedes."""
    place = call.place
    if place is not None and own[1].rpartition("/")[2] != "driver":
        place = texts.place(place.file, int(own[2]))
    if _READ_ONLY.search(own[3]):
        return _trouble(Blame.REFUSED, call, place, own[3], hint=MACHINE_HINT)
    is_here = place == call.place and _is_allowed(call)
    return _trouble(Blame.REMARK if is_here else Blame.RULESET, call, place, own[3])


def _trouble(
    blame: Blame, call: Call, place: Place | None, message: str, *, hint: str = ""
) -> Trouble:
    return Trouble(
        blame=blame, message=message, place=place, command=call.text, said=call.said, hint=hint
    )


def _first(said: str) -> str:
    """The line that tells most: the first that is no warning."""
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    return next((line for line in lines if not line.startswith("Warning:")), lines[0])


def _of_tool(call: Call, said: str, texts: Texts, has: HasOption) -> Iterator[Trouble]:
    if call.name == "nft":
        yield from _of_nft(call, said, texts, has)
        return
    place, line = _line_within(call, said, texts)
    command = line or call.text
    lack: Lack | None
    if call.name == "ipset":
        lack = lacking.lack_of_set(command, said, has)
    elif call.name in ("ip", "tc"):
        lack = lacking.lack_of_link(call.words, said, has)
    else:
        lack = lacking.lack_of_rule(command, said, has)
    yield _blamed(call, place, _message(said), lack)


_TOO_LONG: Final = re.compile(r"Message too long|No buffer space available")
_TOO_LONG_HINT: Final = (
    "a script's tools may send no more than net.core.wmem_max in one transaction: raise that, or"
    " give the file itself to `hostlab firewall`, as root"
)


def _message(said: str) -> str:
    """A tool's message without its name, version, and which of its lines it means."""
    text = " ".join(line.strip() for line in said.split("\n") if not line.startswith("Warning:"))
    text = _RESTORE_LINE.sub("", text)
    text = re.sub(r"^\S+( v\S+)?( \(\w+\))?:\s*", "", text.strip())
    return re.sub(r"\s+", " ", text).strip() or _first(said)


def _blamed(call: Call, place: Place | None, message: str, lack: Lack | None) -> Trouble:
    if lack is None and _TOO_LONG.search(call.said):
        text = f"this stage cannot load so much at once: {message}"
        return _trouble(Blame.KERNEL, call, place, text, hint=_TOO_LONG_HINT)
    if lack is None:
        return _trouble(Blame.RULESET, call, place, message)
    text = f"this machine has no {lack.what}: {message}"
    return _trouble(Blame.KERNEL, call, place, text, hint=lack.hint)


def _line_within(call: Call, said: str, texts: Texts) -> tuple[Place | None, str]:
    """The line of what a -restore was given that it complains of; its text, where it is known."""
    found = _RESTORE_LINE.search(said)
    if found is None:
        return call.place, ""
    number = int(next(group for group in found.groups() if group))
    place, line = _place_within(call, number, texts)
    if line.strip() == "COMMIT" and (missing := _NO_CHAIN.search(said)):
        # What a rule jumps to is looked for when all of a table is there.
        for before in range(number - 1, 0, -1):
            earlier, text = _place_within(call, before, texts)
            if re.search(rf"(-j|-g|--jump|--goto) {re.escape(missing[1])}(\s|$)", text):
                return earlier, text
    return place, line


def _place_within(call: Call, number: int, texts: Texts) -> tuple[Place | None, str]:
    if call.part is not None:
        lines = call.part.text.split("\n")
        text = lines[number - 1] if 0 < number <= len(lines) else ""
        return Place(call.part.path, call.part.first_line + number - 1, 1, text.rstrip()), text
    written = call.written
    if call.place is not None and written is not None and written.here[0]:
        place = texts.place(call.place.file, written.here[0] + number - 1)
        return place, place.text
    file = written.reads if written is not None else ""
    if not file and len(call.words) > 1 and not call.words[-1].startswith("-"):
        file = call.words[-1]
    if file and texts.text(file) is not None:
        place = texts.place(file, number)
        return place, place.text
    return call.place, ""


def _of_nft(call: Call, said: str, texts: Texts, has: HasOption) -> Iterator[Trouble]:
    """nft names every error of a file; each is followed by the line and by a line of carets."""
    lines = said.split("\n")
    found = False
    for number, line in enumerate(lines):
        marked = lines[number + 1] if number + 1 < len(lines) else ""
        if at := _NFT_LINE.match(line):
            found = True
            place = _nft_place(call, at, marked, texts)
            yield _blamed(call, place, at[4], lacking.lack_of_nft(marked, line, has))
        elif line.startswith("Error: "):
            found = True
            lack = lacking.lack_of_nft(marked, line, has)
            yield _blamed(call, call.place, line.removeprefix("Error: "), lack)
    if not found:
        yield _blamed(call, call.place, _message(said), None)


def _nft_place(call: Call, at: re.Match[str], marked: str, texts: Texts) -> Place | None:
    file, line, column = at[1], int(at[2]), int(at[3])
    if file == "/dev/stdin":
        place, text = _place_within(call, line, texts)
        if place is None or not text:
            return place
        return Place(place.file, place.line, column, marked or text)
    return Place(file, line, column, marked)


def _of_end(ran: Ran, found: Sequence[Trouble]) -> Iterator[Trouble]:
    """A script that was ended, or that ended badly without anybody having said why."""
    last = ran.calls[-1] if ran.calls else Call(text="", words=())
    if ran.cut_off:
        yield _trouble(Blame.RULESET, last, last.place, f"it was ended here: {ran.cut_off}")
    elif ran.status and not any(each.blame is not Blame.REMARK for each in found):
        remark = next((each for each in reversed(found) if each.place == last.place), None)
        if remark is not None:
            yield msgspec.structs.replace(remark, blame=Blame.RULESET)
        else:
            message = f"the script ends with status {ran.status}"
            yield _trouble(Blame.RULESET, last, last.place, message)


def of_notes(ran: Ran) -> Iterator[Trouble]:
    """Calls of programs that a stage does not carry out, and of some that it should not."""
    for words, call in with_calls(ran):
        name, text = words[0], " ".join(words)
        if name == MAIN or (name in ("mount", "umount") and len(words) == 1):
            continue
        if name in ("systemctl", "service") and _QUESTIONS.intersection(words):
            continue
        if name in ("modprobe", "depmod") or words[1:2] == ("daemon-reload",):
            named = [word for word in words[1:] if not word.startswith("-")][:1]
            if name != "modprobe" or not named or NETFILTER_MODULE.fullmatch(named[0]):
                message = f"`{text}` was not done here: rules bring what they need"
                yield Trouble(
                    blame=Blame.REMARK, message=message, place=call.place if call else None
                )
                continue
        yield _refused(text, call)
    for call in ran.calls:
        if _is_refused(call):
            yield _refused(call.text, call)


def _is_refused(call: Call) -> bool:
    if call.words and call.words[0].startswith("/etc/init.d/"):
        return "status" not in call.words
    return call.name in REFUSED and "-l" not in call.words


def _refused(text: str, call: Call | None) -> Trouble:
    return Trouble(
        blame=Blame.REFUSED,
        message=f"`{text}` would change the machine beside its network",
        place=call.place if call else None,
        command=text,
        hint=MACHINE_HINT,
    )


def with_calls(ran: Ran) -> Iterator[tuple[tuple[str, ...], Call | None]]:
    """Each noted call with the traced command that made it; both are in their order."""
    at = 0
    for words in ran.noted:
        if not words:
            continue
        found = next((n for n in range(at, len(ran.calls)) if ran.calls[n].name == words[0]), None)
        at = at if found is None else found + 1
        yield words, None if found is None else ran.calls[found]


def of_left_out(names: Sequence[str]) -> Iterator[Trouble]:
    """Files of a directory that were not taken."""
    for name in names:
        message = f"{name!r} was left out: run-parts takes no such name"
        yield Trouble(blame=Blame.REMARK, message=message)

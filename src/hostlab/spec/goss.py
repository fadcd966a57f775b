"""`import goss`: a goss file as a node with checks.

What goss looks at without waiting is awaited here, five seconds or as long as its `timeout` says;
what is not to be, must not be for a second. Read against goss 0.4's resources and matchers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from hostlab.errors import SpecErrors
from hostlab.spec.goss_matchers import Matchers, bounds, decimal
from hostlab.spec.importing import (
    Description,
    Fields,
    Import,
    Imported,
    emit,
    number,
    whole,
    without_nothing,
)
from hostlab.spec.loading import load
from hostlab.spec.source import Mark, Source, quoted
from hostlab.spec.tree import Scalar, Sequence

NODE: Final = "host"
NEVER: Final = "1s"
"""So long must not be what is not to be."""
_TEMPLATE: Final = re.compile(r"\{\{")
_TARGET: Final = re.compile(r"(?:(tcp|udp)[46]?://)?(\[[^]]+\]|[^:/]+):([0-9]{1,5})")
_PORT: Final = re.compile(r"(?:(tcp|udp)(6?):)?([0-9]{1,5})")
_META: Final = "is left out: a check is called by its own words"
_COMMON: Final = {"title": _META, "meta": _META}
_FILETYPES: Final = {"file": "file", "directory": "directory", "symlink": "link",
                     "socket": "socket", "pipe": "fifo",
                     "character-device": "device", "block-device": "device"}  # fmt: skip
_SUMS: Final = ("md5", "sha512")
_OF_GET: Final = ("status", "body", "allow-insecure", "no-follow-redirects", "timeout")
TOP: Final = {
    "gossfile": "is left out: import each of these files by itself",
    "matching": "is left out: it compares values of the file with one another",
}
HTTP: Final = _COMMON | {
    "headers": "is left out; `command: {run: curl -sSi …, stdout: …}` looks at headers",
    **dict.fromkeys(
        ("request-headers", "request-body", "username", "password", "proxy", "ca-file",
         "cert-file", "key-file"),
        "is left out; `command: {run: curl …}` can say it",
    ),
}  # fmt: skip


def import_goss(text: str, *, file: str) -> Imported:
    """Make a description of a goss file's text, YAML or JSON.

    `file` names it in the notes. Raises SpecErrors when the text is not YAML, or has nothing that
    goss knows, or is a template that nobody has filled in.
    """
    return _Goss(_Import(text, file=file, variables={})).run()


class _At(NamedTuple):
    line: int
    column: int


class _Import(Import):
    """Nothing is expanded: a dollar is a regular expression's."""

    def __init__(self, text: str, *, file: str, variables: dict[str, str]) -> None:
        super().__init__(_without_templates(text, file), file=file, variables=variables)

    def expand(self, text: str, at: Mark) -> str:
        return text


def _without_templates(text: str, file: str) -> str:
    """The text; SpecErrors when there are Go's templates in it."""
    source = Source(text, file)
    for line, words in enumerate(text.split("\n")):
        if found := _TEMPLATE.search(words):
            source.report(
                "import",
                "a template is not filled in here",
                _At(line, found.start()),
                "`goss render` writes the file with everything filled in",
            )
            break
    source.raise_errors()
    return text


class _Goss:
    def __init__(self, parent: Import) -> None:
        self.parent = parent
        self.matchers = Matchers(parent)
        self.checks: list[tuple[Mark, Description]] = []

    def run(self) -> Imported:
        top = self.parent.root
        read: dict[str, Callable[[str, Fields], Iterator[Description]]] = {
            "addr": self.addr,
            "command": self.command,
            "dns": self.dns,
            "file": self.file,
            "group": self.group,
            "http": self.http,
            "interface": self.interface,
            "kernel-param": self.kernel_param,
            "mount": self.mount,
            "package": self.package,
            "port": self.port,
            "process": self.process,
            "service": self.service,
            "user": self.user,
        }
        if not any(key in top for key in (*read, *TOP)):
            self.parent.source.report("import", "nothing of goss's: not a goss file", top.at)
            self.parent.source.raise_errors()
        for kind in top:
            if kind not in read:
                continue
            for name, fields in top.children(kind):
                if fields.flag("skip"):
                    self.parent.note(fields.at, f"{kind} {quoted(name)} is left out: `skip`")
                    continue
                self.checks += [(fields.at, check) for check in read[kind](name, fields)]
                fields.rest(HTTP if kind == "http" else _COMMON)
        top.rest(TOP)
        return self.parent.done(_description(self._accepted()), kind_of_file="a goss file")

    def _accepted(self) -> list[Description]:
        """The checks that a description may have; of another is noted what is wrong with it."""
        every = [check for _, check in self.checks]
        if _refused(every) is None:
            return every
        kept = []
        for at, check in self.checks:
            refused = _refused([check])
            if refused is None:
                kept.append(check)
            else:
                kind = next(iter(check))
                self.parent.note(at, f"{kind} is left out: {refused}")
        return kept

    def addr(self, name: str, fields: Fields) -> Iterator[Description]:
        reachable = self._is(fields, "reachable")
        within = self._within(fields)
        if fields.word("local-address"):
            fields.note("local-address", "is left out: the kernel chooses the address")
        found = _TARGET.fullmatch(name)
        if found is None:
            self._not_understood(fields, name, "`tcp://HOST:PORT` belongs here")
            return
        kind = "reaches" if reachable else "not_reaches"
        target = f"{found[2]}:{found[3]}" + ("/udp" if found[1] == "udp" else "")
        yield {kind: target} | within

    def command(self, name: str, fields: Fields) -> Iterator[Description]:
        said: Description = {"run": fields.word("exec") or name}
        status = fields.tree("exit-status")
        if isinstance(status, Scalar) and decimal(status) is not None:
            said["status"] = whole(status.value)
        elif status is not None:
            fields.note("exit-status", "was not understood: a number belongs here")
        out = self.matchers.texts(fields.tree("stdout"), "stdout")
        errors = self.matchers.texts(fields.tree("stderr"), "stderr")
        if errors.matches or errors.lacks or errors.has_numbers:
            fields.note("stderr", "is left out but for texts that it contains")
        said |= without_nothing(
            {
                "stdout": _one(out.contains),
                "matches": _one(out.matches),
                "lacks": _one(out.lacks),
                "stderr": _one(errors.contains),
            }
        )
        if out.above:
            said["above"] = max(out.above)
        if out.below:
            said["below"] = min(out.below)
        if said.get("status") == 0:
            del said["status"]
        yield {"command": said if len(said) > 1 else said["run"]} | self._within(fields)

    def dns(self, name: str, fields: Fields) -> Iterator[Description]:
        resolvable = self._is(fields, "resolvable", "resolveable")
        within = self._within(fields)
        addresses = self.matchers.texts(fields.tree("addrs"), "addrs")
        if fields.word("server"):
            fields.note("server", "is left out: the host's own resolver is asked")
        kind, colon, _ = name.partition(":")
        if colon and kind.isupper():
            self.parent.note(fields.at, f"dns {quoted(name)} is left out: only addresses are asked")
            return
        run = f"getent ahosts {shlex.quote(name)}"
        if not resolvable:
            yield {"command": {"run": run, "status": 2}} | within
            return
        said = without_nothing(
            {"stdout": _one(addresses.contains), "matches": _one(addresses.matches)}
        )
        yield {"command": {"run": run} | said if said else run} | within

    def file(self, name: str, fields: Fields) -> Iterator[Description]:
        if not self._is(fields, "exists"):
            yield {"file": {"path": name, "is": "absent"}}
            return
        content = self.matchers.texts(
            fields.tree("contents") or fields.tree("contains"), "contents"
        )
        kind = fields.word("filetype")
        if kind and kind not in _FILETYPES:
            fields.note("filetype", f"was not understood: {quoted(kind)}")
        user = fields.word("owner") or fields.word("uid") or ""
        group = fields.word("group") or fields.word("gid")
        said: Description = {"path": name} | without_nothing(
            {
                "is": _FILETYPES.get(kind or ""),
                "mode": fields.word("mode"),
                "owner": user + (f":{group}" if group else ""),
                "target": fields.word("linked-to"),
                "sha256": fields.word("sha256"),
                "contains": _one(content.contains),
                "matches": _one(content.matches),
                "lacks": _one(content.lacks),
            }
        )
        yield {"file": said if len(said) > 1 else name}
        for kind in _SUMS:
            if digest := fields.word(kind):
                line = shlex.quote(f"{digest}  {name}")
                yield {"command": f"echo {line} | {kind}sum -c --status"}
        yield from self._size(name, fields)

    def _size(self, name: str, fields: Fields) -> Iterator[Description]:
        tree = fields.tree("size")
        if tree is None:
            return
        found = bounds(tree)
        if found is None:
            fields.note("size", "was not understood: a number, or `lt`, `gt`, `le`, `ge` of one")
            return
        for operator, value in found:
            path = shlex.quote(name)
            yield {"command": f'test "$(stat -Lc %s {path})" -{operator} {number(value)}'}

    def group(self, name: str, fields: Fields) -> Iterator[Description]:
        yield from self._thing("group", name, fields, {"gid": _whole(fields.word("gid"))})

    def user(self, name: str, fields: Fields) -> Iterator[Description]:
        said = {
            "uid": _whole(fields.word("uid")),
            "gid": _whole(fields.word("gid")),
            "home": fields.word("home"),
            "shell": fields.word("shell"),
            "groups": self._list(fields, "groups"),
        }
        yield from self._thing("user", name, fields, said)

    def mount(self, name: str, fields: Fields) -> Iterator[Description]:
        if "usage" in fields:
            fields.skip("usage")
            fields.note("usage", "is left out; `command: df …` can say it")
        options = self._list(fields, "opts")
        said = {
            "source": fields.word("source"),
            "type": fields.word("filesystem"),
            "options": options + self._list(fields, "vfs-opts"),
        }
        within = self._within(fields)
        for check in self._thing("mount", name, fields, said, key="path"):
            yield check | ({} if "never" in check else within)

    def _thing(
        self, kind: str, name: str, fields: Fields, said: Description, *, key: str = "name"
    ) -> Iterator[Description]:
        """What is there, with its properties, or is not."""
        if not self._is(fields, "exists"):
            yield {kind: name, "never": NEVER}
            return
        kept = {word: value for word, value in said.items() if value not in (None, "", [])}
        yield {kind: {key: name} | kept if kept else name}

    def http(self, name: str, fields: Fields) -> Iterator[Description]:
        method = fields.word("method")
        if method not in (None, "", "GET"):
            fields.skip(*_OF_GET)
            self.parent.note(fields.at, f"http {quoted(name)} is left out: its method is {method}")
            return
        body = self.matchers.texts(fields.tree("body"), "body")
        if body.matches or body.lacks or body.has_numbers:
            fields.note("body", "is left out but for texts that it contains")
        status = fields.word("status")
        said: Description = without_nothing({"status": whole(status) if status else None})
        if fields.flag("allow-insecure"):
            said["verify"] = False
        if not fields.flag("no-follow-redirects"):
            said["follow"] = True
        within = self._within(fields)
        for text in body.contains or [""]:
            each = said | ({"body": text} if text else {})
            yield {"http": {"url": name} | each if each else name} | within

    def interface(self, name: str, fields: Fields) -> Iterator[Description]:
        if not self._is(fields, "exists"):
            yield {"interface": {"name": name, "state": "absent"}}
            return
        # goss does not ask that it is up.
        yield {"file": f"/sys/class/net/{name}"}
        for address in self._list(fields, "addrs"):
            yield {"address": f"{address} dev {name}"}
        if mtu := fields.word("mtu"):
            yield {"file": {"path": f"/sys/class/net/{name}/mtu", "matches": f"^{re.escape(mtu)}$"}}

    def kernel_param(self, name: str, fields: Fields) -> Iterator[Description]:
        value = fields.word("value")
        if value is not None:
            yield {"sysctl": {name: value}}

    def package(self, name: str, fields: Fields) -> Iterator[Description]:
        versions = self._list(fields, "versions")
        if len(versions) > 1:
            fields.note("versions", f"has {len(versions)}; the first counts")
        if not self._is(fields, "installed"):
            yield {"package": {"name": name, "installed": False}}
        elif versions:
            yield {"package": {"name": name, "version": versions[0]}}
        else:
            yield {"package": name}

    def port(self, name: str, fields: Fields) -> Iterator[Description]:
        found = _PORT.fullmatch(name)
        listening = self._is(fields, "listening")
        addresses = self._list(fields, "ip")
        if found is None:
            self._not_understood(fields, name, "`tcp:PORT` or `udp:PORT` belongs here")
            return
        protocol = found[1] or "tcp"
        word = f"{found[3]}/udp" if protocol == "udp" else whole(found[3])
        never = {} if listening else {"never": NEVER}
        if found[2] and not addresses:
            self.parent.note(fields.at, f"port {quoted(name)}: IPv4 counts, too")
        if not addresses:
            yield {"listens": word} | never
        for address in addresses:
            said: Description = {"port": whole(found[3]), "address": address}
            yield {"listens": said | ({"protocol": "udp"} if protocol == "udp" else {})} | never

    def process(self, name: str, fields: Fields) -> Iterator[Description]:
        running = self._is(fields, "running")
        yield {"process": name if running else {"name": name, "count": 0}}

    def service(self, name: str, fields: Fields) -> Iterator[Description]:
        said: Description = {"name": name}
        for key in ("running", "enabled"):
            if key in fields:
                said[key] = fields.flag(key)
        if "runlevels" in fields:
            fields.skip("runlevels")
            fields.note("runlevels", "is left out; say `enabled`")
        yield {"service": name if said == {"name": name, "running": True} else said}

    def _is(self, fields: Fields, *keys: str) -> bool:
        """A flag that is true unless it is said to be false."""
        words = [word for key in keys if (word := fields.word(key)) is not None]
        return not words or words[0] in ("true", "True", "yes", "on")

    def _within(self, fields: Fields) -> Description:
        timeout_ms = fields.word("timeout")
        found = whole(timeout_ms) if timeout_ms else 0
        return {"within": f"{number(found / 1000)}s"} if found > 0 else {}

    def _list(self, fields: Fields, key: str) -> list[str]:
        """Texts, which a matcher may hold."""
        tree = fields.tree(key)
        if isinstance(tree, Sequence) and all(isinstance(item, Scalar) for item in tree.items):
            return [item.value for item in tree.items if isinstance(item, Scalar)]
        found = self.matchers.texts(tree, key)
        if found.matches or found.lacks or found.has_numbers:
            fields.note(key, "is left out but for what it is to have")
        return found.contains

    def _not_understood(self, fields: Fields, name: str, why: str) -> None:
        self.parent.note(fields.at, f"{quoted(name)} was not understood: {why}")


def _description(checks: list[Description]) -> str:
    return emit({"nodes": {NODE: {"checks": checks} if checks else None}})


def _refused(checks: list[Description]) -> str | None:
    """Why a description with these checks is none."""
    try:
        load(_description(checks), file="goss")
    except SpecErrors as errors:
        return errors.errors[0].message
    return None


def _one(texts: list[str]) -> Any:
    return texts[0] if len(texts) == 1 else texts


def _whole(word: str | None) -> int | None:
    return whole(word) if word else None

"""The page on the description, made from the tables that read it."""

from __future__ import annotations

from hostlab.spec.json_schema import tables
from hostlab.spec.shapes import Key, Table

_INTRODUCTION = """\
# The description

This page is made from the tables that read a description, by `hostlab.spec.reference.markdown()`;
a test compares the two. `hostlab schema` prints the same for editors.

A description is YAML, one document in UTF-8. The short form of a lab of three hosts:

```yaml
name: hello
segments: [lan]
nodes: [alice, bob, carol]
```

Where a list is expected, one item alone will do. A key with nothing behind it counts as left out.
Everything is read as the text that was written, so `no` is a name where a name belongs.

**Times** are `200ms`, `5s`, `1m`, `2h`, `1d` or a number of seconds. **Sizes** are `64K`, `64M`,
`1G` (or `KiB`, `MiB`, `GiB`), powers of 1024; `MB` is a million. **Modes** are octal.

**Addresses left out** are assigned in the order of the file: the Nth segment has 10.N.0.0/24 (or
as much as it needs) and fd00:0:0:N::/64, the Nth interface on it the Nth free address. What is
added at the end moves nothing.

**Names left out** (of the lab, or a node written as `~`) are an adjective and a surname, the same
every time.

**Roles** are merged in the order in which a node names them, its own keys last: mappings by key,
lists appended, anything else replaced. A role's checks are about all its nodes.

**Jobs** start when their node comes up, or when the events happen that they wait for: those of
other jobs (`started db`), those of a host's boot, those that someone emits. A node can bring
Upstart's own files as well:

```yaml
nodes:
  shop:
    jobs:
      db: {exec: postgres -D /srv/db, user: postgres, readiness: {port: 5432, within: 30s}}
      web:
        start_on: started db and net-device-up IFACE=lo
        stop_on: stopping db
        pre_start: mkdir -p /run/web
        exec: python3 -m http.server 80
        respawn: {limit: 5, interval: 1m}
      migrate:
        task: true
        start_on: starting web
        script: |
          cd /srv/shop
          ./migrate
    files:
      /etc/init/greet.conf: |
        start on runlevel [2345]
        exec echo hello
    job_files: [/etc/init]
```

All errors of a file are told at once, each with its place.
"""


def markdown() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(_section(table) for table in tables())


def _section(table: Table) -> str:
    lines = ["", f"## {table.name}", "", table.doc, ""]
    if table.required:
        lines += ["Needed: " + ", ".join(f"`{name}`" for name in table.required) + ".", ""]
    lines += [
        f"Only one of {', '.join(f'`{name}`' for name in group)}.\n" for group in table.exclusive
    ]
    lines += ["| key | what it is | meaning | left out | example |", "|---|---|---|---|---|"]
    lines += [_row(key) for key in table.keys]
    return "\n".join(lines) + "\n"


def _row(key: Key) -> str:
    words = " or ".join(f"`{word}`" for word in (key.name, *key.aliases))
    cells = (words, key.shape.words, key.doc, key.default, f"`{key.example}`")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

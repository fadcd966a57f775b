"""A description's text in, a `Lab` out, or every error of it at once. Nothing is opened here."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from hostlab.spec.bundles import ReadBundle
from hostlab.spec.files import ListFiles, Read
from hostlab.spec.model import Lab
from hostlab.spec.oci import bundle
from hostlab.spec.resolve import Inputs, resolve
from hostlab.spec.source import START, Source, Spot
from hostlab.spec.tables import LAB
from hostlab.spec.yaml_text import compose


def load(
    text: str | bytes,
    *,
    file: str,
    read: Read | None = None,
    list_files: ListFiles | None = None,
    oci: ReadBundle = bundle,
    directory: str = "",
    seed: str | None = None,
) -> Lab:
    """Read a description.

    `file` is its name for messages. `read` gives the bytes of a file that it names, relative to
    its directory; `list_files` the files of a directory there. `directory` is that directory,
    absolute, for paths of the machine that the description gives relative to itself. `oci` reads a
    bundle's `config.json`. `seed` is what the name of an unnamed lab is drawn from, best the
    file's real path: then the name outlives a change of the file; without it, the text.

    Raises SpecErrors with every error and its place.
    """
    if isinstance(text, bytes):
        text = _decode(text, file)
    if seed is None:
        seed = hashlib.sha256(text.removeprefix("\ufeff").encode(errors="replace")).hexdigest()
    inputs = Inputs(read=read, list_files=list_files, oci=oci, directory=directory, seed=seed)
    with _no_collection():
        return _load(text.removeprefix("\ufeff"), file, inputs)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without it the collector, which walks all that was made so far, grows with the square.

    A tree of a file has no cycles to collect; 4,000 nodes take 0.8 s instead of 2.0.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(text: str, file: str, inputs: Inputs) -> Lab:
    source = Source(text, file)
    tree = compose(source)
    if tree is None:
        source.raise_errors()
        source.report("missing", "the description is empty", START, "see `hostlab schema`")
        source.raise_errors()
    assert tree is not None
    said = LAB.read(source, tree)
    if said is not None:
        lab = resolve(source, said.value, inputs)
        source.raise_errors()
        return lab
    source.raise_errors()
    raise AssertionError("what cannot be read was reported")


def _decode(content: bytes, file: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        good = Source(content[: error.start].decode() + "\ufffd", file)
        at = Spot(len(good.lines) - 1, len(good.lines[-1]) - 1)
        message = f"the byte 0x{content[error.start]:02X} is not UTF-8"
        good.report("yaml", message, at, "save the file as UTF-8")
        good.raise_errors()
        raise AssertionError("the error was reported") from error

"""A description's own directory: what it may copy from there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.errors import SpecErrors
from hostlab.lab.description import read_lab

pytestmark = pytest.mark.unit


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    (tmp_path / "jobs" / "net").mkdir(parents=True)
    (tmp_path / "jobs" / "web.conf").write_text("exec web\n")
    (tmp_path / "jobs" / "net" / "hook").write_text("#!/bin/sh\n")
    (tmp_path / "jobs" / "net" / "hook").chmod(0o755)
    (tmp_path / "elsewhere").write_text("linked\n")
    (tmp_path / "jobs" / "link").symlink_to("../elsewhere")
    os.mkfifo(tmp_path / "jobs" / "pipe")
    path = tmp_path / "lab.yaml"
    path.write_text("nodes: {a: {files: {/etc/init: {copy: jobs}}}}\n")
    return path


def test_a_directory_beside_the_description_is_copied_but_for_what_is_no_file(
    lab_file: Path,
) -> None:
    files = read_lab(str(lab_file)).nodes[0].files
    assert [(file.path, file.content, file.mode) for file in files] == [
        ("/etc/init/link", b"linked\n", 0o644),
        ("/etc/init/net/hook", b"#!/bin/sh\n", 0o755),
        ("/etc/init/web.conf", b"exec web\n", 0o644),
    ]


def test_a_link_in_it_that_leads_nowhere_is_an_error(lab_file: Path) -> None:
    (lab_file.parent / "jobs" / "gone").symlink_to("nowhere")
    with pytest.raises(SpecErrors, match="`jobs`: No such file"):
        read_lab(str(lab_file))

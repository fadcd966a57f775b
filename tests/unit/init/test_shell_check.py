"""The shell's complaints stand at the lines of the file."""

from __future__ import annotations

import pytest

from hostlab.errors import Unsupported
from hostlab.init import shell_check
from hostlab.init.shell_check import script_errors
from hostlab.spec.upstart import apply_override, load_conf

pytestmark = pytest.mark.unit

TEXT = """\
pre-start script
    test -d /run/x || mkdir /run/x
end script
script
\tif true; then
\t\techo a
\tfi )
end script
"""


def test_the_line_is_that_of_the_file() -> None:
    job = load_conf(TEXT, file="a.conf", name="a")
    (error,) = script_errors(job, {"a.conf": TEXT})
    assert error.where is not None
    assert str(error.where) == "a.conf:7:2"
    assert error.where.text == "\tfi )"
    assert error.message.startswith("script: ")
    assert "syntax error" in error.message.lower()
    assert str(error).splitlines()[2] == "    \t^"


def test_a_script_of_an_override_is_at_its_place_there() -> None:
    conf = "\n\npost-stop script\nend script\n"
    job = load_conf(conf, file="a.conf", name="a")
    over = "manual\npost-stop script\n  }\nend script\n"
    job = apply_override(job, over, file="a.override")
    (error,) = script_errors(job, {"a.conf": conf, "a.override": over})
    assert str(error.where) == "a.override:3:3"
    assert error.message.startswith("post-stop: ")


def test_good_scripts_and_command_lines_are_not_complained_about() -> None:
    text = "script\n  exit 1\nend script\npre-start exec nothing )\n"
    assert script_errors(load_conf(text, file="a", name="a"), {"a": text}) == ()


def test_without_a_shell_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_check, "SHELL", "/nowhere/sh")
    with pytest.raises(Unsupported, match="/nowhere/sh"):
        script_errors(load_conf(TEXT, file="a", name="a"), {"a": TEXT})

"""Checklist §1.7: which files make a job."""

from __future__ import annotations

import pytest

from hostlab.spec.search import Selected, select_files, user_directories

pytestmark = pytest.mark.unit


def test_first_directory_owns_the_name() -> None:
    found = select_files([("/a", ["x.conf", "net/y.conf"]), ("/b", ["x.conf", "z.conf"])])
    assert {name: each.conf for name, each in found.items()} == {
        "x": ("/a", "x.conf"),
        "net/y": ("/a", "net/y.conf"),
        "z": ("/b", "z.conf"),
    }


def test_override_is_the_first_at_or_before_the_confs_directory() -> None:
    found = select_files(
        [("/a", ["x.override"]), ("/b", ["x.conf", "x.override", "y.conf", "y.override"])]
    )
    assert found["x"] == Selected(conf=("/b", "x.conf"), override=("/a", "x.override"))
    assert found["y"] == Selected(conf=("/b", "y.conf"), override=("/b", "y.override"))


def test_override_beyond_or_without_conf_is_ignored() -> None:
    found = select_files([("/a", ["x.conf", "z.override"]), ("/b", ["x.override"])])
    assert found == {"x": Selected(conf=("/a", "x.conf"))}


def test_a_users_session_has_its_own_directories() -> None:
    assert user_directories({"HOME": "/home/me"}) == (
        "/home/me/.config/upstart",
        "/home/me/.init",
        "/etc/xdg/upstart",
        "/usr/share/upstart/sessions",
    )
    environment = {
        "HOME": "/home/me",
        "XDG_CONFIG_HOME": "/conf",
        "XDG_CONFIG_DIRS": "/a:relative:/b",
    }
    assert user_directories(environment)[:4] == (
        "/conf/upstart",
        "/home/me/.init",
        "/a/upstart",
        "/b/upstart",
    )
    assert user_directories({"HOME": "/h", "XDG_CONFIG_HOME": "conf"})[0] == "/h/.config/upstart"

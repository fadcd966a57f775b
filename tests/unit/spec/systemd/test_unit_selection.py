"""systemd.unit(5), "Unit file load path": which files make a unit."""

from __future__ import annotations

import pytest

from hostlab.spec.systemd.selection import (
    SYSTEM_DIRECTORIES,
    Directory,
    Selection,
    user_directories,
)

pytestmark = pytest.mark.unit


def selection(**directories: dict[str, str | None]) -> Selection:
    """A search path of `/NAME`, first one first."""
    return Selection([Directory(f"/{name}", files) for name, files in directories.items()])


def files(*names: str) -> dict[str, str | None]:
    return dict.fromkeys(names)


def test_the_first_directory_owns_a_name() -> None:
    found = selection(etc=files("a.service"), lib=files("a.service", "b.socket", "README"))
    assert found.names() == ("a.service", "b.socket")
    assert found.select("a.service").files == ("/etc/a.service",)
    assert not found.select("c.service").found


def test_a_masked_unit_has_no_files() -> None:
    found = selection(
        etc={"a.service": "/dev/null", "a.service.d/x.conf": None}, lib=files("a.service")
    ).select("a.service")
    assert (found.masked, found.files, found.found) == (True, (), False)


def test_aliases_are_symbolic_links_and_their_drop_ins_count() -> None:
    found = selection(
        etc={"sshd.service": "/lib/ssh.service", "dbus-x.service": "sshd.service"},
        lib=files("ssh.service", "sshd.service.d/1.conf"),
    )
    assert found.names() == ("ssh.service",)
    one = found.select("dbus-x.service")
    assert (one.name, one.aliases) == ("ssh.service", ("dbus-x.service", "sshd.service"))
    assert one.files == ("/lib/ssh.service", "/lib/sshd.service.d/1.conf")


def test_a_link_in_a_circle_ends() -> None:
    found = selection(etc={"a.service": "b.service", "b.service": "a.service"})
    assert found.select("a.service").name in ("a.service", "b.service")


def test_a_link_to_a_file_elsewhere_is_the_unit_itself() -> None:
    found = selection(etc={"a.service": "/opt/units/a.service"})
    assert found.select("a.service").files == ("/etc/a.service",)


def test_drop_ins_in_the_order_of_their_names_over_all_directories() -> None:
    found = selection(
        etc={
            "a-b.service.d/20.conf": None,
            "a-b.service.d/40.conf": "/dev/null",
            "a-b.service.d/no": None,
        },
        lib=files(
            "a-b.service", "a-b.service.d/10.conf", "a-b.service.d/20.conf",
            "a-b.service.d/40.conf", "a-.service.d/15.conf", "service.d/05.conf",
            "service.d/10.conf",
        ),
    )  # fmt: skip
    assert found.select("a-b.service").files == (
        "/lib/a-b.service",
        "/lib/service.d/05.conf",
        "/lib/a-b.service.d/10.conf",
        "/lib/a-.service.d/15.conf",
        "/etc/a-b.service.d/20.conf",
    )


def test_an_instance_has_its_templates_files_unless_it_has_its_own() -> None:
    found = selection(
        etc={"multi-user.target.wants/g@tty1.service": "/lib/g@.service"},
        lib=files("g@.service", "g@tty2.service", "g@.service.d/1.conf", "g@tty1.service.d/2.conf"),
    )
    assert found.names() == ("g@tty1.service", "g@tty2.service")
    assert found.templates() == ("g@.service",)
    assert found.select("g@tty1.service").files == (
        "/lib/g@.service", "/lib/g@.service.d/1.conf", "/lib/g@tty1.service.d/2.conf",
    )  # fmt: skip
    assert found.select("g@tty2.service").files[0] == "/lib/g@tty2.service"


def test_an_alias_of_a_template_has_instances() -> None:
    found = selection(lib={"autovt@.service": "getty@.service", "getty@.service": None})
    assert found.select("autovt@tty3.service").name == "getty@tty3.service"


def test_wants_and_requires_directories_of_a_unit_and_its_aliases() -> None:
    found = selection(
        etc={
            "m.target.wants/a.service": "/lib/a.service",
            "m.target.wants/c.service": "/dev/null",
            "m.target.requires/d.socket": "../d.socket",
            "default.target": "/lib/m.target",
            "default.target.wants/e.service": "/lib/e.service",
        },
        lib={
            "m.target": None,
            "m.target.wants/c.service": "../c.service",
            "m.target.wants/g@x.service": "../g@.service",
        },
    ).select("default.target")
    assert found.name == "m.target"
    assert found.wants == ("a.service", "e.service", "g@x.service")
    assert found.requires == ("d.socket",)


def test_search_paths() -> None:
    assert SYSTEM_DIRECTORIES.index("/etc/systemd/system") < SYSTEM_DIRECTORIES.index(
        "/run/systemd/system"
    ) < SYSTEM_DIRECTORIES.index("/usr/lib/systemd/system")  # fmt: skip
    paths = user_directories({"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"})
    assert paths[0] == "/home/me/.config/systemd/user.control"
    assert "/run/user/7/systemd/user" in paths

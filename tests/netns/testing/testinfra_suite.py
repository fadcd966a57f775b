"""What testinfra's own tests expect of its modules, on a Debian node: run with `--hosts`.

It knows nothing of hostlab: the suite of somebody who used ssh until now.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

Host = Any


def test_packages(host: Host) -> None:
    assert host.package("bash").is_installed
    assert host.package("bash").version.startswith("5.")
    assert not host.package("zsh-that-is-not").is_installed
    with pytest.raises(NotImplementedError):
        _ = host.package("bash").release
    with pytest.raises(AssertionError, match="dpkg-query"):
        _ = host.package("zsh-that-is-not").version


def test_the_system(host: Host) -> None:
    info = host.system_info
    assert (info.type, info.distribution, info.codename) == ("linux", "debian", "bookworm")
    assert info.release.startswith("12")


def test_services_of_units(host: Host) -> None:
    nginx = host.service("nginx")
    assert nginx.is_running
    assert nginx.is_enabled
    assert nginx.exists
    assert not host.service("no-such-service").is_running
    assert not nginx.is_masked
    assert nginx.systemd_properties["Id"] == "nginx.service"


def test_a_service_is_masked_and_is_not(host: Host) -> None:
    service = host.service("cron")
    assert not service.is_masked
    host.check_output("systemctl mask cron")
    assert service.is_masked
    host.check_output("systemctl unmask cron")
    assert not service.is_masked


def test_sysctls(host: Host) -> None:
    assert host.sysctl("kernel.hostname") == host.check_output("hostname")
    assert isinstance(host.sysctl("net.ipv4.ip_forward"), int)


def test_sockets(host: Host) -> None:
    listening = host.socket.get_listening_sockets()
    assert "tcp://0.0.0.0:80" in listening
    for spec in ("tcp://80", "tcp://0.0.0.0:80", "tcp://127.0.0.1:80", "tcp://:::80"):
        assert host.socket(spec).is_listening
    assert not host.socket("tcp://4242").is_listening
    assert host.socket("tcp://80").clients == []


def test_processes(host: Host) -> None:
    init = host.process.get(pid=1)
    assert (init.ppid, init.euid, init.user) == (0, 0, "root")
    master = host.process.get(user="root", comm="nginx", ppid=1)
    assert "nginx" in master.args
    workers = host.process.filter(ppid=master.pid)
    assert workers
    assert {worker.user for worker in workers} == {"www-data"}


def test_users_and_groups(host: Host) -> None:
    user = host.user("www-data")
    assert user.exists
    assert (user.name, user.uid, user.gid, user.group) == ("www-data", 33, 33, "www-data")
    assert (user.groups, user.gids) == (["www-data"], [33])
    assert (user.shell, user.home) == ("/usr/sbin/nologin", "/var/www")
    assert user.password == "*"
    assert {"root", "man", "nobody"} <= set(user.get_all_users)
    assert host.user("root").password_max_days == 99999
    assert host.user("root").password_min_days == 0
    assert host.user("root").expiration_date is None
    assert not host.user("zzzzzzzzzz").exists
    assert host.user().name == "root"
    assert host.group("root").exists
    assert host.group("root").gid == 0
    assert {"root", "bin"} <= set(host.group("root").get_all_groups)
    assert {"root", "bin"} <= set(host.group("root").get_local_groups)
    assert not host.group("zzzzzzzzzz").exists


def test_commands(host: Host) -> None:
    assert host.check_output("printf ''") == ""
    assert host.run("false").failed
    assert host.run("true").succeeded
    assert host.run("kill -9 $$").rc == 128 + 9
    assert host.run("printf %s; echo >&2 e; exit 3", "a b'c").rc == 3
    assert host.run("printf '\\303\\251\\377'").stdout_bytes == b"\xc3\xa9\xff"
    assert host.run("printf %s", "é").stdout == "é"
    assert len(host.run("head -c 1000000 /dev/zero").stdout) == 1_000_000
    assert host.exists("sh")
    assert not host.exists("no-such-program")
    assert host.find_command("sysctl").endswith("/sysctl")


def test_files(host: Host) -> None:
    host.check_output("mkdir -p /d && printf foo > /d/f && chmod 600 /d/f")
    host.check_output('touch "/d/f\nl" "/d/f s"')
    directory, file = host.file("/d"), host.file("/d/f")
    assert directory.is_directory
    assert not directory.is_file
    assert sorted(directory.listdir()) == ["f", "f s", "f?l"]
    assert file.exists
    assert file.is_file
    assert (file.content, file.content_string) == (b"foo", "foo")
    assert (file.user, file.uid, file.group, file.gid) == ("root", 0, "root", 0)
    assert (file.mode, file.size) == (0o600, 3)
    assert file.contains("fo")
    assert not file.contains("bar")
    assert not any((file.is_directory, file.is_symlink, file.is_pipe, file.is_executable))
    assert file.md5sum == "acbd18db4cc2f85cedef654fccc4a4d8"
    assert file.sha256sum.startswith("2c26b46b68ffc68f")
    host.check_output("ln -fsn /d/f /d/l && ln /d/f /d/h && mkfifo /d/p && chmod 700 /d/f")
    assert host.file("/d/l").is_symlink
    assert host.file("/d/l").linked_to == "/d/f" == host.file("/d/l").linked_to
    assert host.file("/d/h").inode == file.inode
    assert host.file("/d/p").is_pipe
    assert file.is_executable
    assert file == host.file("/d/f")
    assert file != directory
    host.check_output("rm -r /d")
    assert not file.exists


def test_what_needs_ansible_says_so(host: Host) -> None:
    with pytest.raises(RuntimeError, match="only available with ansible"):
        host.ansible("setup")


def test_mounts(host: Host) -> None:
    root = host.mount_point("/")
    assert root.exists
    assert "rw" in root.options
    assert root.filesystem
    assert not host.mount_point("/fake/mount").exists
    points = host.mount_point.get_mountpoints()
    assert [point.path for point in points].count("/") == 1


def test_another_user_and_back(host: Host) -> None:
    with host.sudo("www-data"):
        assert host.user().name == "www-data"
        with pytest.raises(AssertionError, match="Unexpected exit code"):
            host.check_output("ls /root/invalid")
        assert host.check_output("echo %s", 'it\'s "quoted" $HOME') == 'it\'s "quoted" $HOME'
    assert host.user().name == "root"
    with host.sudo():
        assert host.user().name == "root"


def test_the_environment(host: Host) -> None:
    assert host.environment().get("HOME") == "/root"


def test_pip(host: Host) -> None:
    assert not host.pip("does_not_exist").is_installed


def test_iptables(host: Host) -> None:
    host.check_output("iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT")
    rule = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"
    assert rule in host.check_output("iptables-nft-save")
    host.check_output("iptables-nft -F INPUT")
    assert rule not in host.check_output("iptables-nft-save")


def test_addresses_of_others(host: Host) -> None:
    nobody = host.addr("some-name-that-nobody-has")
    assert not nobody.is_resolvable
    assert not nobody.is_reachable
    other = host.addr("other")
    assert other.is_resolvable
    assert other.is_reachable
    assert all(ipaddress.IPv4Address(each) for each in other.ipv4_addresses)
    assert host.addr("10.0.0.1").ipv4_addresses == ["10.0.0.1"]
    assert host.addr("127.0.0.1").port(80).is_reachable
    assert not other.port(666).is_reachable


@pytest.mark.parametrize("family", ["inet", None])
def test_interfaces(host: Host, family: str | None) -> None:
    assert host.interface("eth0", family=family).exists
    assert not host.interface("does_not_exist", family=family).exists
    addresses = host.interface("eth0", family=family).addresses
    assert all(ipaddress.ip_address(address) for address in addresses)
    assert "eth0" in host.interface.names()


def test_block_devices_are_told(host: Host) -> None:
    assert host.run("lsblk").rc in (0, 32)

"""Load the systemd units of Debian packages: how many, and what is wrong with which.

Packages are downloaded into DIRECTORY (apt-get download, nothing is installed), their units taken
out of the archives, and loaded. Exit status 1 when a unit is rejected or fewer than `--at-least`
were found, 3 when nothing can be downloaded here.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import click

from hostlab.init.unit_files import list_directory, read_units

_PACKAGES = """
anacron apache2 apt autofs avahi-daemon bind9 bird2 bluez btrfsmaintenance chrony cloud-init colord
containerd cron cups-daemon dbus dnsmasq docker.io dovecot-core e2fsprogs exabgp fail2ban freeradius
frr gdm3 haproxy hostapd isc-dhcp-server kea-dhcp4-server keepalived knot knot-resolver lightdm
lldpd logrotate lvm2 man-db mariadb-server mdadm memcached modemmanager mosquitto multipath-tools
netfilter-persistent network-manager nfs-kernel-server nftables nginx-common nsd ntpsec open-iscsi
openssh-server openvpn packagekit pdns-recursor pdns-server podman polkitd postfix postgresql-common
prometheus-node-exporter radvd redis-server rpcbind rsyslog rtkit samba smartmontools snmpd
sssd-common strongswan-starter systemd systemd-container systemd-resolved systemd-timesyncd tgt tor
udev udisks2 unbound upower util-linux uuid-runtime winbind wireguard-tools wpasupplicant
"""
PACKAGES = _PACKAGES.split()
DOWNLOAD_S = 120.0
"""For one package."""
PLACE = "systemd/system/"


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--at-least", default=200, show_default=True, help="Units that must be found.")
@click.option("--no-download", is_flag=True, help="Use the packages that are there.")
def main(directory: Path, *, at_least: int, no_download: bool) -> None:
    """Load the systemd units of Debian packages that are downloaded into DIRECTORY."""
    archives = directory / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    if not no_download:
        for name in PACKAGES:
            if not any(archives.glob(f"{name}_*.deb")):
                _download(name, archives)
    found = sorted(archives.glob("*.deb"))
    if not found:
        print("here: no package can be downloaded", file=sys.stderr)
        sys.exit(3)
    places = []
    for archive in found:
        place = directory / "units" / archive.name.partition("_")[0]
        _extract(archive, place)
        places.append(str(place))
    sys.exit(_report(places, at_least))


def _download(name: str, archives: Path) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", "download", name],
        cwd=archives,
        check=False,
        timeout=DOWNLOAD_S,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)


def _extract(archive: Path, place: Path) -> None:
    """Take the units out of one package, below a directory of its own."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                _, found, inside = member.name.partition(PLACE)
                target = place / inside
                if not found or not inside or ".." in inside.split("/"):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if member.issym() and not target.is_symlink():
                    os.symlink(member.linkname, target)
                elif member.isfile() and (content := tar.extractfile(member)) is not None:
                    target.write_bytes(content.read())


def _report(places: list[str], at_least: int) -> int:
    loaded, errors = read_units(places)
    kinds = collections.Counter(each.unit.name.type.value for each in loaded.units)
    rejected = [each.error for each in loaded.units if each.error is not None]
    unknown = [w for each in loaded.units for w in each.warnings if w.code != "degraded"]
    for error in (*errors, *rejected, *unknown):
        print(error)
    for cycle in loaded.cycles:
        print(cycle)
    listed = sum(len(list_directory(place).files) for place in places)
    kinds_text = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    print(f"{listed} names, {len(loaded.units)} units ({kinds_text}), {len(loaded.jobs)} jobs")
    print(f"{len(rejected)} rejected, {len(unknown)} warnings beside those of what is degraded")
    return 1 if rejected or errors or len(loaded.units) < at_least else 0


if __name__ == "__main__":
    main()

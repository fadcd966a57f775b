"""Make .venv with hostlab in it: `setup.py demo` what it runs on, `setup.py dev` its tests too.

Needs nothing but Python, and is read by older ones too, to say that they are too old. What only
root can install (Debian's venv module, the programs that tests compare with) is installed when
root, and otherwise named with the exact command; tests that lack a program say so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
POLICY = Path("/usr/sbin/policy-rc.d")
SEARCH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
TOOLS = {
    "/usr/lib/dovecot/imap": "dovecot-imapd",
    "/usr/lib/frr/frr-reload.py": "frr-pythontools",
    "/usr/lib/postgresql/15/bin/postgres": "postgresql",
    "avahi-daemon": "avahi-daemon",
    "bird": "bird2",
    "busybox": "busybox-static",
    "chronyd": "chrony",
    "conntrack": "conntrack",
    "cron": "cron",
    "dbus-daemon": "dbus",
    "dnsmasq": "dnsmasq",
    "dot": "graphviz",
    "exabgp": "exabgp",
    "gdbus": "libglib2.0-bin",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "ipset": "ipset",
    "iptables": "iptables",
    "keepalived": "keepalived",
    "lldpd": "lldpd",
    "memcached": "memcached",
    "nft": "nftables",
    "nginx": "nginx-light",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "pgrep": "procps",
    "ping": "iputils-ping",
    "postfix": "postfix",
    "redis-server": "redis-server",
    "rsyslogd": "rsyslog",
    "runc": "runc",
    "snmpd": "snmpd",
    "sshd": "openssh-server",
    "tcpdump": "tcpdump",
    "tcpserver": "ucspi-tcp",
    "udisksctl": "udisks2",
    "unbound": "unbound",
    "vtysh": "frr",
    "zsh": "zsh",
}
"""Programs that tests compare hostlab with, or run in nodes -> their Debian packages."""
UNPACKED = {"pimd": "pimd"}
"""The same, where the package excludes another one of TOOLS (frr and pimd do): apt would remove
that, so the program alone is taken out of the package."""
UNPACKED_TO = Path("/usr/local/sbin")


def main() -> int:
    if sys.version_info < OLDEST:
        return fail(
            f"hostlab needs Python {OLDEST[0]}.{OLDEST[1]} or later;"
            f" {sys.executable} is {sys.version.split()[0]}.\n"
            "Name another: make PYTHON=python3.11 demo"
        )
    with_tests = sys.argv[1:] == ["dev"]
    stamp, wanted = VENV / ".made-from", fingerprint()
    made = stamp.read_text().split() if stamp.exists() else []
    if made[:1] == [wanted] and (not with_tests or "dev" in made):
        return 0
    if with_tests and not install_tools():
        print("Going on without; the tests that need them are skipped.", file=sys.stderr)
    if not make_venv():
        return 3
    print("installing hostlab into .venv", file=sys.stderr)
    what = f"{ROOT}[dev]" if with_tests or "dev" in made else str(ROOT)
    words = [
        *pip(),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    ]
    done = subprocess.run(
        [*words, "-c", str(CONSTRAINTS), "-e", what], check=False, env=environment()
    )
    if done.returncode:
        return fail("pip could not install hostlab; to see why: make clean, and again")
    stamp.write_text(" ".join([wanted, *(["dev"] if what.endswith("]") else [])]) + "\n")
    return 0


def fingerprint() -> str:
    """Changes when what is installed has to change."""
    digest = hashlib.sha256(
        f"{sys.version}{ROOT}{sorted(TOOLS.items())}{sorted(UNPACKED.items())}".encode()
    )
    for path in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def environment() -> dict[str, str]:
    """The constraints hold for what builds hostlab, too; newer pip wants them by another name."""
    return {
        **os.environ,
        "PIP_CONSTRAINT": str(CONSTRAINTS),
        "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS),
    }


def install_tools() -> bool:
    """The programs of TOOLS and UNPACKED; False when some are missing and stay so."""
    missing = [p for tool, p in TOOLS.items() if shutil.which(tool, path=SEARCH) is None]
    apart = [tool for tool in UNPACKED if shutil.which(tool, path=SEARCH) is None]
    return (not missing or apt(*missing)) and all(unpack(tool) for tool in apart)


def make_venv() -> bool:
    """A virtual environment of this interpreter; False, having said why, when it cannot be had."""
    python = VENV / "bin/python"
    if works(str(python), f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"):
        return True
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        version = "{}.{}".format(*sys.version_info)
        package = f"python{version}-venv" if sys.executable.startswith("/usr/bin/") else None
        if package is None:
            fail(f"{sys.executable} has no venv module; name another: make PYTHON=… demo")
            return False
        if not apt(package) and not works(sys.executable, "import pip._internal, venv"):
            return False
    print(f"making .venv with {sys.executable}", file=sys.stderr)
    shutil.rmtree(VENV, ignore_errors=True)
    without = [] if works(sys.executable, "import ensurepip, venv") else ["--without-pip"]
    done = subprocess.run([sys.executable, "-m", "venv", *without, str(VENV)], check=False)
    if done.returncode:
        fail(f"{sys.executable} could not make {VENV}")
    return done.returncode == 0


def pip() -> list[str]:
    """The environment's own pip, or where Debian's venv came without one, the interpreter's."""
    python = str(VENV / "bin/python")
    if works(python, "import pip._internal"):
        return [python, "-m", "pip"]
    return [sys.executable, "-m", "pip", "--python", python]


def works(python: str, program: str) -> bool:
    try:
        return not subprocess.run(
            [python, "-c", program], capture_output=True, check=False
        ).returncode
    except OSError:
        return False


def apt(*packages: str) -> bool:
    """Install Debian packages as root without starting a daemon; False, having said how, if not."""
    names = " ".join(sorted(set(packages)))
    command = f"apt-get install --no-install-recommends {names}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return not fail(f"missing: {names}; as root: {command}")
    print(command, file=sys.stderr)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_daemons():
        for words in (["update"], [*command.split()[1:], "--yes"]):
            done = subprocess.run(
                ["apt-get", "-qq", *words], env=quiet, stdout=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                return not fail(f"apt-get {' '.join(words)} failed")
    importlib.invalidate_caches()
    return True


def unpack(tool: str) -> bool:
    """Take a program out of its Debian package; False, having said how, if that does not work."""
    name, target = UNPACKED[tool], UNPACKED_TO / tool
    command = f"apt-get download {name} && dpkg-deb -x {name}_*.deb {name}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return not fail(f"missing: {tool}; {command}; as root: cp {name}/usr/sbin/{tool} {target}")
    print(f"{command}, {target}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="hostlab-setup-") as directory:
        here = Path(directory)
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name],
            cwd=here,
            check=False,
        )
        packages = [str(path) for path in here.glob(f"{name}_*.deb")]
        if done.returncode or not packages:
            return not fail(f"apt-get download {name} failed")
        done = subprocess.run(["dpkg-deb", "-x", packages[0], str(here / name)], check=False)
        if done.returncode:
            return not fail(f"dpkg-deb could not unpack {packages[0]}")
        shutil.copy2(here / name / "usr/sbin" / tool, target)
    return True


class no_daemons:
    """Keeps packages from starting what they bring; what was there before is put back."""

    def __enter__(self) -> None:
        self.before = POLICY.read_bytes() if POLICY.exists() else None
        self.mode = POLICY.stat().st_mode if POLICY.exists() else 0
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            POLICY.unlink(missing_ok=True)
        else:
            POLICY.write_bytes(self.before)
            POLICY.chmod(self.mode)


def fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main())

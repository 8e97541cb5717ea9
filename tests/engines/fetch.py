"""Fetch and unpack the Docker engine of another release of Debian: ``python tests/engines/fetch.py trixie sid``.

apt does it with state and sources of its own, so the machine's package lists, keys and packages stay as they are.
What is unpacked runs in a private mount namespace where it lies over the machine's /usr (:func:`inside`): so it has
its own C library, containerd and runc, and nothing is installed.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[2] / ".cache" / "engines"
PACKAGES: Final = (
    *("docker.io", "containerd", "runc", "tini", "iptables"),
    *("libc6", "libsystemd0", "libseccomp2", "libcap2", "libnftables1"),
)
"""What dockerd needs that Debian's containers don't already have in a version that would do."""
SUITES: Final = {"trixie": "26.1", "sid": "28.5"}
"""Suites, and the version of Docker that each had when this was written."""


class Unavailable(Exception):
    """No mirror of Debian can be reached from here, or this is no Debian or Ubuntu; says what."""


def unpacked(suite: str) -> Path:
    """Return the folder with a suite's engine, fetched at the first call.

    :raises Unavailable: where it can't be had.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    root = CACHE / suite
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            with tempfile.TemporaryDirectory(prefix="tfgpu-apt-", dir=CACHE) as folder:
                _fetch(suite, Path(folder)).rename(root)
    return root


def inside(root: Path) -> list[str]:
    """Return what to put in front of a command so that it runs with an unpacked engine's files over /usr.

    It gets a network of its own besides, as every engine of the tests does.
    """
    script = 'mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr && shift && exec "$@"'
    return ["unshare", "--net", "--mount", "sh", "-c", script, "sh", str(root)]


def _fetch(suite: str, folder: Path) -> Path:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("other engines are taken from Debian's packages, which need apt and dpkg")
    for part in ("state/lists/partial", "cache/archives/partial", "debs", "root"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={_keyring()}] {_mirror()} {suite} main\n")
    options = [
        f"--option=Dir::State={folder}/state",
        f"--option=Dir::State::status={folder}/status",
        f"--option=Dir::Cache={folder}/cache",
        f"--option=Dir::Etc::sourcelist={folder}/sources.list",
        "--option=Dir::Etc::sourceparts=-",
        "--option=APT::Sandbox::User=root",
        "--option=Acquire::Languages=none",
    ]
    _run(["apt-get", *options, "update"], folder)
    _run(["apt-get", *options, "download", *PACKAGES], folder / "debs")
    for package in sorted((folder / "debs").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(folder / "root")], folder)
    return folder / "root"


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[-3:])}: {(done.stderr or done.stdout).strip()[-500:]}")


def _mirror() -> str:
    """Return where this machine gets Debian from.

    :raises Unavailable: where that isn't told, as on Ubuntu.
    """
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.is_file():
            found = re.search(r"^(?:deb|URIs:)\s(?:.*?)(https?://\S*/debian)/?(?:\s|$)", path.read_text(), re.MULTILINE)
            if found:
                return found[1]
    raise Unavailable("apt on this machine names no mirror of Debian; other engines come from one")


def _keyring() -> Path:
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not keyring.is_file():
        raise Unavailable("Debian's signing keys are missing: apt-get install debian-archive-keyring")
    return keyring


if __name__ == "__main__":
    for name in sys.argv[1:] or SUITES:
        print(unpacked(name))

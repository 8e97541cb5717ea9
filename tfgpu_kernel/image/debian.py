"""A root file system from the packages of Debian or Ubuntu, where no registry is in reach.

mmdebstrap does the work: it runs the host's own apt, so it gets packages in whatever way the host does
(a mirror, a proxy), where debootstrap would go its own way and fail.
"""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHONS = {
    "debian": {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"},
    "ubuntu": {"3.8": "focal", "3.10": "jammy", "3.12": "noble"},
}
"""Distribution → Python → the release that has this Python as its ``python3``."""

_COMPONENTS = ("main", "universe")
EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")


@dataclass(frozen=True)
class Release:
    """A release of Debian or Ubuntu, by its ids in ``/etc/os-release``."""

    distribution: str
    codename: str

    def python(self) -> str | None:
        """Return the version of this release's ``python3``, like ``3.11``, or None where it isn't known."""
        for version, codename in PYTHONS.get(self.distribution, {}).items():
            if codename == self.codename:
                return version
        return None


def host_release(os_release: Path = Path("/etc/os-release")) -> Release | None:
    """Return the host's release, or None where apt is not its package manager."""
    if shutil.which("apt-get") is None:
        return None
    facts = platform.freedesktop_os_release() if not os_release.exists() else _facts(os_release)
    distribution = facts.get("ID", "")
    if distribution not in PYTHONS:  # a derivative, such as Linux Mint
        distribution = "ubuntu" if "ubuntu" in facts.get("ID_LIKE", "").split() else "debian"
    codename = facts.get("UBUNTU_CODENAME") or facts.get("VERSION_CODENAME", "")
    return Release(distribution, codename) if codename else None


def _facts(os_release: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in os_release.read_text().splitlines() if "=" in line)
    return {name: "".join(shlex.split(value)) for name, _, value in lines}


def sources(host: Release, wanted: Release, apt: Path = Path("/etc/apt")) -> tuple[str, ...]:
    """Return the host's sources of its distribution's packages as ``deb`` lines for the wanted release.

    Only entries of the distribution's own suites count, with the component ``main``, or Ubuntu's ``universe``, which
    has Python's venv and pip and may stand in an entry of its own: a third party's repository has no place in a small
    base.
    """
    suites = {host.codename + pocket: wanted.codename + pocket for pocket in ("", "-updates", "-security")}
    found: dict[str, None] = {}
    for options, uri, suite, components in _entries(apt):
        kept = [name for name in components if name in _COMPONENTS]
        if suite in suites and kept:
            line = ["deb", f"[{options}]"] if options else ["deb"]
            found[" ".join([*line, uri, suites[suite], *kept])] = None
    return tuple(found)


def command(release: Release, lines: Sequence[str], packages: Sequence[str], target: str) -> list[str]:
    """Return the mmdebstrap command that writes a tar archive with these packages to ``target``.

    The host's proxy for apt is used, and taken out again: it is this machine's business.
    """
    options = ["--variant=minbase", "--format=tar", f"--include={','.join(packages)}"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    proxies = proxy_options()
    if proxies:
        options += [f"--aptopt={option}" for option in proxies]
        options += ['--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"']
    return ["mmdebstrap", *options, release.codename, target, *lines]


def proxy_options() -> list[str]:
    """Return the host's proxy settings for apt, as lines of an apt.conf."""
    if shutil.which("apt-config") is None:
        return []
    dump = subprocess.run(
        ["apt-config", "dump", "--format", '%f "%v";%n', "Acquire::http", "Acquire::https"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return [line for line in dump.splitlines() if "Proxy" in line and not line.rstrip(";").endswith('""')]


def _entries(apt: Path) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (options, URI, suite, components) of each enabled binary source, both of apt's formats."""
    folder = apt / "sources.list.d"
    for file in [apt / "sources.list", *sorted(folder.glob("*.list"))]:
        if file.is_file():
            yield from _one_line(file.read_text(errors="replace"))
    for file in sorted(folder.glob("*.sources")):
        yield from _deb822(file.read_text(errors="replace"))


def _one_line(text: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    for line in text.splitlines():
        kind, _, rest = line.partition("#")[0].strip().partition(" ")
        if kind != "deb":
            continue
        rest, options = rest.strip(), ""
        if rest.startswith("["):
            options, _, rest = rest[1:].partition("]")
        words = rest.split()
        if len(words) >= 3:
            yield _signed(options), words[0], words[1], tuple(words[2:])


def _deb822(text: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
                continue
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
            continue
        key = fields.get("signed-by", "")
        options = f"signed-by={key}" if key.startswith("/") else ""
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield options, uri, suite, tuple(fields.get("components", "").split())


def _signed(options: str) -> str:
    return " ".join(word for word in options.split() if word.startswith(("signed-by=", "trusted=")))

"""What pip on this machine needs to reach its index: settings, CA bundle, folders that serve packages.

A site behind a mirror or a proxy that inspects TLS has set all this up for the host. The same is lent to
containers, read-only: while an image is made, and to a running kernel for ``%pip install``. None of it
becomes part of an image.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from . import debian

KEPT = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "proxy",
    "timeout",
    "retries",
)
"""pip's options that say where packages come from. Others (``user``, ``target``, ``require-virtualenv``)
speak of the host's own environments, and would break an installation in a container."""
LISTS = ("index-url", "extra-index-url", "find-links")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
"""Where systems keep the certificates they trust, a site's own included."""


@dataclass(frozen=True)
class Lent:
    """A host's file or folder, and the path a container sees it at, read-only."""

    host: Path
    inside: PurePosixPath


@dataclass(frozen=True)
class PipSite:
    """Where packages come from on this machine."""

    settings: Mapping[str, str]
    """pip's options (long names without dashes) and their values, lists separated by white space."""
    ca_bundle: Path | None = None
    proxies: Mapping[str, str] | None = None
    """The proxy variables of the environment, as they are written there."""

    def folders(self) -> tuple[Path, ...]:
        """Return the host's folders that serve packages, in the order in which the settings name them.

        An index page links to files beside its own folder (``../../files/x.whl``), so of
        ``file:///srv/pypi/simple`` the folder above is meant.
        """
        found: dict[Path, None] = {}
        for option in LISTS:
            for word in self.settings.get(option, "").split():
                path = _local(word)
                if path is not None:
                    found[_served(option, path)] = None
        return tuple(found)

    def lend(self, at: PurePosixPath) -> tuple[Lent, ...]:
        """Return what a container has to be given below its folder ``at``."""
        lent = [Lent(folder, at / f"packages-{number}") for number, folder in enumerate(self.folders())]
        if self.ca_bundle is not None:
            lent.append(Lent(self.ca_bundle, at / "ca.crt"))
        return tuple(lent)

    def config(self, at: PurePosixPath) -> str:
        """Return the text of the ``pip.conf`` for a container that has been lent the rest at ``at``."""
        inside = {lent.host: lent.inside for lent in self.lend(at)}
        lines = ["[global]"]
        for option, value in sorted(self.settings.items()):
            if option in LISTS:
                value = " ".join(_moved(option, word, inside) for word in value.split())
            lines.append(f"{option} = {value}")
        if self.ca_bundle is not None:
            lines.append(f"cert = {at / 'ca.crt'}")
        return "\n".join([*lines, ""])

    def environment(self, at: PurePosixPath) -> dict[str, str]:
        """Return the variables that make pip, and what else downloads, use what was lent at ``at``."""
        found = dict(self.proxies or {})
        found["PIP_CONFIG_FILE"] = str(at / "pip.conf")
        found["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        if self.ca_bundle is not None:
            bundle = str(at / "ca.crt")
            found |= {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
        return found


def find(environ: Mapping[str, str] = os.environ) -> PipSite:
    """Read pip's settings as pip itself would: files first, then the environment.

    https://pip.pypa.io/en/stable/topics/configuration/ has the places and their order.
    """
    settings: dict[str, str] = {}
    for file in _config_files(environ):
        settings |= _read(file)
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    cert = settings.get("cert") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE")
    bundles = [Path(path) for path in ([cert] if cert else []) + list(BUNDLES)]
    return PipSite(
        settings={option: " ".join(settings[option].split()) for option in KEPT if option in settings},
        ca_bundle=next((path.resolve() for path in bundles if path.is_file()), None),
        proxies={name: value for name, value in environ.items() if name.lower() in PROXIES},
    )


def apt_config(lent: PipSite, at: PurePosixPath) -> str:
    """Return the text of an ``apt.conf`` for a container that has been lent the rest at ``at``.

    apt gets the host's proxy for apt, and trusts the certificates that the host trusts.
    """
    lines = [*debian.proxy_options(), "Acquire::Retries 3;"]
    if lent.ca_bundle is not None:
        lines.append(f'Acquire::https::CAInfo "{at / "ca.crt"}";')
    return "\n".join([*lines, ""])


def _config_files(environ: Mapping[str, str]) -> Iterator[Path]:
    chosen = environ.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return
    home = Path(environ.get("HOME") or Path.home())
    for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield Path(sys.prefix, "pip.conf")
    if chosen:
        yield Path(chosen)


def _read(file: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}  # pip would complain about it on the host; here the rest may still do
    return {
        option: value
        for section in ("global", "install")
        if parser.has_section(section)
        for option, value in parser.items(section)
    }


def _local(word: str) -> Path | None:
    """Return the folder of this machine that a ``file:`` URL or a bare path names, if it exists."""
    parts = urlsplit(word)
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path)).expanduser()
    return path if path.is_absolute() and path.is_dir() else None


def _served(option: str, path: Path) -> Path:
    return path if option == "find-links" or path.parent == path.parent.parent else path.parent


def _moved(option: str, word: str, inside: Mapping[Path, PurePosixPath]) -> str:
    path = _local(word)
    if path is None:
        return word
    served = _served(option, path)
    moved = inside[served] / path.relative_to(served)
    return str(moved) if option == "find-links" else f"file://{moved}"

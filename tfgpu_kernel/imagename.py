"""Names of images: which part is what, and when two of them mean the same. Pure.

Docker leaves its own registry out of a name and podman writes it out; a user may do either. What is compared, is
compared as Docker writes it.
"""

from __future__ import annotations

from typing import Final

_DOCKERS: Final = ("docker.io/", "index.docker.io/")
"""The addresses of Docker's own registry, which a name may leave out."""


def familiar(name: str) -> str:
    """Return a name as Docker writes it: ``docker.io/library/ubuntu:22.04`` is ``ubuntu:22.04``."""
    address = next((one for one in _DOCKERS if name.startswith(one)), "")
    plain = name.removeprefix(address)
    official = plain.removeprefix("library/")
    return plain if "/" in official else official


def repository(name: str) -> str:
    """Return the repository that a name is in, as Docker writes it: without tag and digest."""
    return _split(familiar(name))[0]


def tagged(name: str) -> str:
    """Return a name as Docker writes it, with the tag that it means where it has neither tag nor digest."""
    plain = familiar(name)
    return plain if _split(plain)[1] or "@" in plain else f"{plain}:latest"


def pinned(name: str, digest: str) -> str:
    """Return a name for just what has this digest; its registry stays as written, for engines that add none."""
    return f"{_split(name)[0]}@{digest}"


def _split(name: str) -> tuple[str, str]:
    """Split a name into repository and tag, without its digest; a colon before a slash is a registry's port."""
    undigested = name.partition("@")[0]
    front, colon, tag = undigested.rpartition(":")
    return (front, tag) if colon and "/" not in tag else (undigested, "")

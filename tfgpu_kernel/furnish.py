"""What is put into a kernel's container: pip's settings, programs for its cells, names where it has no network."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from .image import site
from .image.ready import ReadyImage
from .mounts import Bind

FOLDER: Final = PurePosixPath("/tfgpu/site")
"""Where the host's pip settings and certificates are in the container."""
PROGRAMS: Final = PurePosixPath("/tfgpu/bin")
"""What comes before the image's own programs in a cell's ``!``."""

_HOSTS: Final = {"/etc/hosts": ("127.0.0.1\tlocalhost\n", 0o644)}
"""Docker writes this file only into containers with a network; TensorBoard and others look ``localhost`` up."""


@dataclass(frozen=True)
class Furniture:
    """Files (path → content and mode), mounts and environment that a container gets."""

    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def furnish(image: ReadyImage, lent: site.PipSite, *, hosts: bool) -> Furniture:
    """Return what a container of the image gets; what the host lends is read-only there, and in no image.

    :param hosts: whether it needs the file that names ``localhost``.
    """
    programs = importlib.resources.files(__package__) / "boot"
    pip, apt = ((programs / f"{name}.sh").read_text() for name in ("pip", "apt"))
    files = {
        str(FOLDER / "pip.conf"): (lent.config(FOLDER), 0o644),
        str(FOLDER / "constraints.txt"): ("\n".join([*image.constraints, ""]), 0o644),
        str(PROGRAMS / "pip"): (pip, 0o755),
        str(PROGRAMS / "pip3"): (pip, 0o755),
        str(PROGRAMS / "apt"): (apt, 0o755),
        str(PROGRAMS / "apt-get"): (apt, 0o755),
        **(_HOSTS if hosts else {}),
    }
    binds = tuple(Bind(str(item.host), str(item.inside), read_only=True) for item in lent.lend(FOLDER))
    return Furniture(files, binds, lent.environment(FOLDER))

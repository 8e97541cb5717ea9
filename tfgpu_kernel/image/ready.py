"""What a launch needs to know of an image in which a kernel can run."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.base import ImageRecord


@dataclass(frozen=True)
class ReadyImage:
    """An image that is here and has Python with ipykernel."""

    requested: str
    """The reference that the user named."""
    record: ImageRecord
    """The image that is started: the named one, or one derived from it."""
    base_digest: str
    """Digest of the named image, or its id where it never saw a registry."""
    python: str
    """Path of the Python that has ipykernel, in the container."""
    passwd: str
    """The image's ``/etc/passwd``."""
    group: str
    """The image's ``/etc/group``."""
    constraints: tuple[str, ...] = ()
    """``name==version`` of each of its Python packages: what an installation in a cell must not change."""
    notices: tuple[str, ...] = ()
    """Sentences that the user should read, such as why another image was chosen."""

"""This machine's own pip, lent to an image that has neither pip nor ensurepip, such as Debian's bare python3."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import zipfile
from pathlib import Path

from packaging.specifiers import SpecifierSet

from ..errors import ImageUnusable
from .facts import Facts


def lent(facts: Facts, reference: str) -> bytes:
    """Return pip as a zip archive, or nothing where the image has one itself.

    :raises ImageUnusable: where there is none here either that runs on the image's Python.
    """
    if "pip" in facts.packages or facts.pip_wheel:
        return b""
    folder = _folder()
    if folder is None or not _runs(facts):
        raise ImageUnusable(
            f"The image {reference} has neither pip nor ensurepip, and this machine has no pip that runs on Python "
            f"{facts.short_python}, so nothing can be added to it.",
            "have the image's author add pip (Debian, Ubuntu: python3-pip; uv: uv venv --seed), or take another image.",
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, Path("pip") / path.relative_to(folder))
    return buffer.getvalue()


def _folder() -> Path | None:
    """Return the folder of this program's own pip, if it has one that is whole: old Debians keep parts elsewhere."""
    found = importlib.util.find_spec("pip")
    folder = Path(found.origin).parent if found is not None and found.origin else None
    return folder if folder is not None and (folder / "_vendor" / "requests").is_dir() else None


def _runs(facts: Facts) -> bool:
    try:
        needs = importlib.metadata.metadata("pip")["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        return False
    return SpecifierSet(needs).contains(".".join(str(number) for number in facts.python))

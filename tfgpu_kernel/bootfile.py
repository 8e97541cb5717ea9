"""The program that a container's Python runs: the folder ``boot``, as one archive that Python can execute."""

from __future__ import annotations

import functools
import importlib.resources
import io
import zipfile
from typing import Final

PACKAGE: Final = "tfgpu_boot"
"""The package's name inside: a kernel's own imports never meet it by accident."""
_MAIN: Final = f"import sys\n\nfrom {PACKAGE}.main import main\n\nsys.exit(main(sys.argv[1]))\n"
# Python runs the first module of this name that it finds; the image may have one too, which is its Python's business.
_CUSTOMIZE: Final = f"""import sys

from {PACKAGE}.here import follow

ours = sys.modules.pop("sitecustomize")
archive = sys.path.pop(0)
try:
    import sitecustomize
except ImportError:
    sys.modules["sitecustomize"] = ours
finally:
    sys.path.insert(0, archive)
follow()
"""


@functools.cache
def archive() -> bytes:
    """Return the archive (a zipapp, see the standard library's module of that name).

    It has no times in it: in every process it is the same to the byte, so that kernels can be compared by it.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
        file.writestr(zipfile.ZipInfo("sitecustomize.py"), _CUSTOMIZE)
        folder = importlib.resources.files(__package__) / "boot"
        for source in sorted(folder.iterdir(), key=lambda source: source.name):
            if source.name.endswith(".py"):
                file.writestr(zipfile.ZipInfo(f"{PACKAGE}/{source.name}"), source.read_bytes())
    return buffer.getvalue()

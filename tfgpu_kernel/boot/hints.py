"""One line that says how to get what isn't there: a module, or a program in a cell's ``!``."""

import importlib
import importlib.util
import os
import shutil
import sys
from typing import Any, Callable, Optional

DISTRIBUTIONS = {
    "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "Crypto": "pycryptodome", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "fitz": "pymupdf", "git": "gitpython", "google.cloud": "google-cloud",
    "IPython": "ipython", "OpenSSL": "pyopenssl", "PIL": "pillow", "pkg_resources": "setuptools",
    "serial": "pyserial", "skimage": "scikit-image", "sklearn": "scikit-learn", "tensorflow_addons":
    "tensorflow-addons", "tensorflow_datasets": "tensorflow-datasets", "tensorflow_hub": "tensorflow-hub",
    "umap": "umap-learn", "yaml": "pyyaml",
}  # fmt: skip
"""Modules whose package has another name."""
PACKAGES = {
    "dot": "graphviz", "ps": "procps", "top": "procps", "ifconfig": "net-tools", "ip": "iproute2", "7z": "p7zip-full",
    "convert": "imagemagick", "gcc": "build-essential", "g++": "build-essential", "make": "build-essential",
    "pdflatex": "texlive-latex-base", "xelatex": "texlive-xetex", "ping": "iputils-ping",
}  # fmt: skip
"""Programs whose package has another name."""
NOT_FOUND = "command_not_found_handle"  # what bash calls then; it takes functions from the environment


def install(shell: Any) -> None:
    """Set the hints up in a kernel's shell; let ``%pip`` be the pip that cells call."""
    shell.events.register("post_run_cell", _after_cell)
    shell.register_magic_function(_pip(shell), "line", "pip")
    bash = shutil.which("bash")
    if bash and "SHELL" not in os.environ:
        os.environ["SHELL"] = bash  # what IPython runs a cell's ! with
    os.environ["BASH_FUNC_" + NOT_FOUND + "%%"] = _handler()


def missing_module(error: BaseException) -> Optional[str]:
    """Return the hint for an import that failed, or None where it is none of our business."""
    name = getattr(error, "name", None)
    if not isinstance(error, ImportError) or not name:
        return None
    top = name.partition(".")[0]
    try:
        if top in sys.modules or importlib.util.find_spec(top) is not None:
            return None  # the package is here, and lacks a part
    except (ImportError, ValueError):
        return None
    package = DISTRIBUTIONS.get(top, top.replace("_", "-"))
    return "tfgpu: this image has no module %s; for this notebook: %%pip install %s; for all: name it in packages." % (
        top,
        package,
    )


def _after_cell(result: Any) -> None:
    error = result.error_in_exec
    hint = missing_module(error) if error is not None else None
    if hint:
        sys.stderr.write(hint + "\n")


def _pip(shell: Any) -> Callable[[str], None]:
    def pip(line: str) -> None:
        """Run the package manager pip for this notebook: what it installs is there after a restart, too."""
        shell.system("pip " + line)
        importlib.invalidate_caches()

    return pip


def _handler() -> str:
    """Return the body of the function that bash calls for a program that it doesn't find."""
    cases = "".join(" %s) package=%s;;" % (name, package) for name, package in sorted(PACKAGES.items()))
    return (
        '() { echo "bash: $1: command not found" >&2; local package=$1; case $1 in%s esac; '
        "if [ $1 = sudo ]; then echo 'tfgpu: a kernel is no administrator, so there is no sudo; what needs it belongs "
        "into the image.' >&2; else "
        'echo "tfgpu: this image has no $1; name its package in system_packages of the kernel\'s settings (jupyter '
        'tfgpu install --system-packages $package), and start it again." >&2; fi; return 127; }' % cases
    )

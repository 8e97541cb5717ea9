"""To what this user has agreed: which images, with which packages, a notebook of somebody else may bring.

One small file for each consent, named by what it is for (:meth:`tfgpu_kernel.lock.record.Lock.subject`).
Nothing that a notebook says can make one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from .. import disk, imagename
from ..errors import ConsentNeeded
from .read import Found
from .record import Lock

ALLOWED: Final = ("tensorflow/tensorflow",)
"""Repositories that need no question: TensorFlow's own images, from Docker's registry and no other."""
_COMPLETION: Final = """
    appnope asttokens attrs backcall backports-zoneinfo cached-property comm contextvars contourpy cycler
    dataclasses debugpy decorator defusedxml entrypoints exceptiongroup executing fonttools importlib-metadata
    importlib-resources immutables ipykernel ipython ipython-genutils ipython-pygments-lexers ipywidgets jedi
    jsonschema jupyter-client jupyter-core jupyterlab-widgets kiwisolver matplotlib matplotlib-inline nbformat
    nest-asyncio numpy packaging pandas parso pexpect pickleshare pillow platformdirs prompt-toolkit psutil
    ptyprocess pure-eval pygments pyparsing pyrsistent python-dateutil pytz pyzmq setuptools six stack-data
    tornado tqdm traitlets typing-extensions tzdata wcwidth widgetsnbextension zipp
    """
COMPLETION: Final = frozenset(_COMPLETION.split())
"""What completing an image brings on any machine: the closure of ipykernel and the extras of image/plan.py.
Pinned by hash and taken from this machine's own index, they need no question of their own."""


def needed(lock: Lock) -> bool:
    """Whether this lock needs a consent that has not been given."""
    return not (allowed(lock) or given(lock))


def allowed(lock: Lock) -> bool:
    """Whether image and packages are among those that need no question.

    The name alone is enough for an image only with its digest: it is then fetched from that repository by it.
    """
    return (
        bool(lock.image.digest)
        and imagename.repository(lock.image.reference) in ALLOWED
        and all(package.name in COMPLETION for package in lock.packages.added)
        and not lock.packages.system
    )


def given(lock: Lock) -> bool:
    """Whether this user has agreed to exactly this image with exactly these packages."""
    return _file(lock).is_file()


def give(lock: Lock) -> None:
    """Remember that the user agrees."""
    file = _file(lock)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    said = {
        "image": lock.image.pinned,
        "packages": [*(package.line for package in lock.packages.added), *lock.packages.system],
        "agreed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    disk.write(file, json.dumps(said, indent=1))


def require(found: Found, notebook: str) -> None:
    """Let a lock pass that may be followed.

    :raises ConsentNeeded: otherwise.
    """
    lock = found.lock
    if not needed(lock):
        return
    added = len(lock.packages.added) + len(lock.packages.system)
    more = f", with {added} packages added" if added else ""
    raise ConsentNeeded(
        f"This notebook was locked to the image {lock.image.pinned}{more}, to which you have not agreed yet. "
        "Nothing was fetched or started.",
        "in JupyterLab press “Agree” in the bar above the notebook; or see what it needs, and agree, by: "
        f"jupyter tfgpu execute {notebook}",
    )


def _file(lock: Lock) -> Path:
    return user_data_path("tfgpu") / "consents" / f"{lock.subject()}.json"

"""Variables that would run a mounted folder's code before the mounts are compared with what was judged: pure.

A ``sitecustomize`` on PYTHONPATH runs before any program of ours, a library of LD_PRELOAD even before Python. Where
they point into what is mounted they go in under another name, and boot/postponed.py has them act once all is compared.
Others stay as they are: starting Python a second time takes some 20 ms.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable
from typing import Any, Final

from .boot.postponed import PREFIX
from .mounts import Mounts

_NAMES: Final = ("PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")


def postpone(body: dict[str, Any], inherited: Iterable[str], mounts: Mounts) -> dict[str, Any]:
    """Return the create call's body with such variables kept back.

    :param inherited: the image's environment, as ``NAME=text``.
    """
    targets = [bind.target for bind in mounts.binds if bind.identity is not None]
    env = {text.partition("=")[0]: text for text in body["Env"]}
    values = dict(text.partition("=")[::2] for text in (*inherited, *body["Env"]))
    for name in _NAMES:
        text = values.get(name, "")
        if text and any(_leads_in(part, targets) for part in re.split(r"[:\s]", text)):
            env[name] = name  # without "=" it takes away what the image would set
            env[PREFIX + name] = f"{PREFIX}{name}={text}"
    return {**body, "Env": list(env.values())}


def _leads_in(path: str, targets: Iterable[str]) -> bool:
    """Whether a path may be in what is mounted; a relative one starts at the working directory, which is."""
    normal = os.path.normpath(path)
    return not normal.startswith("/") or any(
        os.path.commonpath([normal, place]) == place for place in (*targets, "/proc", "/dev")
    )

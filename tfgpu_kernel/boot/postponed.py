"""Variables that make a program run what lies in a mounted folder, kept back until the mounts are compared.

The server gives them another name (tfgpu_kernel/postpone.py); here they get their own back, and Python starts anew
with them, since most act on nothing but a start.
"""

import os
import sys

from . import furnished

PREFIX = "TFGPU_POSTPONED_"


def act() -> None:
    """Start this program anew with what was kept back; return where that is nothing."""
    held = [name for name in os.environ if name.startswith(PREFIX)]
    if not held:
        return
    for name in held:
        os.environ[name[len(PREFIX) :]] = os.environ.pop(name)
    furnished.waited()  # what is the user's may want a home; in vain is told by the next start
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - no shell is wanted

"""What to say where an image that is made on the machine itself has not been made yet: the command that makes it."""

from __future__ import annotations

import os
import shlex
import site
import sys
from pathlib import Path
from typing import Final

from .debian import PYTHONS, Release
from .presets import Preset

NEWEST: Final = {"3.8": "2.13", "3.9": "2.20"}
"""Python → the last TensorFlow for it, where that is not the newest."""
TENSORFLOW: Final = "2.21"
"""The newest TensorFlow that this was tried with."""


def as_root(*arguments: str) -> str:
    """Return the command line that runs a verb of ours as root.

    Not ``sudo jupyter``: sudo looks in the system's folders alone, and this environment is rarely there.
    """
    sudo: tuple[str, ...] = () if os.geteuid() == 0 else ("sudo",)
    if sudo and Path(__file__).is_relative_to(site.getusersitepackages()):  # pip install --user: root looks in its own
        sudo = ("sudo", "env", f"PYTHONUSERBASE={site.getuserbase()}")
    return shlex.join([*sudo, sys.executable, "-m", "tfgpu_kernel.cli", *arguments])


def remedy(preset: Preset, host: Release | None) -> str:
    """Return how the image of a preset gets there, under the name that the preset has.

    :param host: None on machines that no image can be built on.
    """
    kind = "--gpu" if preset.gpu else "--cpu"
    if host is None:
        return (
            f"build it on a machine with Debian or Ubuntu (jupyter tfgpu image build {kind}), and carry it over: "
            f"jupyter tfgpu image save {preset.reference} -o FILE there, jupyter tfgpu image load -i FILE here."
        )
    other: tuple[str, ...] = ()
    if host.python() in NEWEST:
        # This release's own Python would give an older TensorFlow, under another name.
        newer = next(python for python in PYTHONS[host.distribution] if python not in NEWEST)
        other = ("--python", newer, "--tag", preset.reference)
    return f"build it (some minutes, once): {as_root('image', 'build', kind, *other)}"

"""Where a preset's image isn't built yet, the command that is told makes it: that TensorFlow, under that name."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
from dataclasses import replace
from typing import Any, cast

import pytest

from tfgpu_kernel.cli import parser
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.errors import ImageNotFound
from tfgpu_kernel.image import debian, ensure, unbuilt
from tfgpu_kernel.image.build import recipe
from tfgpu_kernel.image.debian import Release
from tfgpu_kernel.image.presets import PRESETS, Preset
from tfgpu_kernel.progress import unheard

HOSTS = [Release("debian", name) for name in ("bullseye", "bookworm", "trixie", "sid")]
HOSTS += [Release("ubuntu", name) for name in ("focal", "jammy", "noble", "plucky")]
BUILT = [preset for preset in PRESETS if preset.built]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.codename)
@pytest.mark.parametrize("preset", BUILT, ids=lambda preset: preset.name)
def test_the_command_makes_what_the_preset_names(preset: Preset, host: Release) -> None:
    """Also where the machine's own Python is too old for the preset's TensorFlow."""
    words = shlex.split(unbuilt.remedy(preset, host).partition(": ")[2])
    asked = parser(["image"]).parse_args(words[words.index("image") :])
    made = recipe(gpu=asked.gpu, tensorflow=asked.tensorflow, python=asked.python, host=host)
    assert (asked.tag or made.tag) == preset.reference
    assert made.tensorflow == unbuilt.TENSORFLOW
    assert made.gpu == preset.gpu


def test_the_command_is_found_by_sudo() -> None:
    """It names its program by its path: sudo's own search path has no virtual environment in it."""
    words = shlex.split(unbuilt.as_root("--version"))
    program = [word for word in words if word != "sudo"]
    assert os.path.isabs(program[0])
    done = subprocess.run(program, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_elsewhere_it_is_carried_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can't build is told to have the image built, and brought."""
    monkeypatch.setattr(debian, "host_release", lambda: None)
    error = ensure.not_built(BUILT[0].reference)
    assert isinstance(error, ImageNotFound)
    assert f"image save {BUILT[0].reference}" in error.remedy
    assert "image load -i FILE" in error.remedy
    assert "or name another" in ensure.not_built(replace(BUILT[0], reference="tfgpu/other:1").reference).remedy


class _Having:
    """An engine that has one image, and would be asked to pull."""

    address = "unix:///nowhere"

    def __init__(self, reference: str) -> None:
        self.reference = reference

    async def image(self, reference: str) -> str | None:
        """Look it up."""
        return "the image" if reference == self.reference else None


@pytest.mark.parametrize("reference", [BUILT[0].reference, f"{ensure.OURS}mine:1-2"])
@pytest.mark.parametrize("pull", ["missing", "always", "never"])
def test_what_is_built_is_taken_whatever_pull_says(reference: str, pull: Any) -> None:
    """No registry has a newer one, so "always" can't mean that one is asked, nor that the image isn't there."""
    config = KernelConfig(pull=pull)
    assert asyncio.run(ensure.present(reference, cast("Any", _Having(reference)), config, unheard)) == "the image"
    with pytest.raises(ImageNotFound, match="has not been built"):
        asyncio.run(ensure.present(reference, cast("Any", _Having("another")), config, unheard))

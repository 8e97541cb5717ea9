"""The main job: run examples/mnist_mlp.ipynb through the kernel tfgpu, and say how it went in one line."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import nbformat

from tfgpu_kernel import gpus
from tfgpu_kernel.config import AUTO
from tfgpu_kernel.engine import find
from tfgpu_kernel.errors import GpuUnusable, ImageUnusable, TfgpuError
from tfgpu_kernel.image import choice
from tfgpu_kernel.image.hardware import Hardware
from tfgpu_kernel.image.presets import BUILT
from tfgpu_kernel.progress import unheard

EXAMPLE: Final = Path("examples/mnist_mlp.ipynb")
RESULT: Final = Path("build/demo/mnist_mlp.ipynb")
LOCAL: Final = {False: "tfgpu/tensorflow:local-cpu", True: "tfgpu/tensorflow:local-gpu"}
"""The image that is built where none can be pulled; True with a usable GPU."""
REGISTRY_SECONDS: Final = 5.0


async def choose() -> tuple[str, str]:
    """Return the image to use, and why there is no GPU (empty where there is one).

    The image is the one that kernels get here by default, if the engine has it or its registry answers soon.
    """
    engine = find.engine()
    try:
        info = await engine.info()
        sample, reason = None, ""
        try:
            sample = await gpus.usable(info, "auto", unheard)
        except GpuUnusable as error:
            reason = error.message
        try:
            chosen = choice.choose(AUTO, Hardware.of(sample, info.architecture))
        except ImageUnusable as error:
            sample, reason = None, error.message
            chosen = choice.choose(AUTO, Hardware(info.architecture, gpu_wanted=False))
        if sample or not chosen.reference.startswith("tensorflow/"):
            print(f"    {chosen.because}")
        if await engine.image(chosen.reference) is not None:
            return chosen.reference, reason
        if chosen.reference.startswith(BUILT):
            return LOCAL[sample is not None], reason
        try:
            await engine.registry_digest(chosen.reference, REGISTRY_SECONDS)
        except TfgpuError as error:
            print(f"    {chosen.reference} can't be pulled here: {error.message}")
            return LOCAL[sample is not None], reason
        return chosen.reference, reason
    finally:
        await engine.close()


def build(image: str) -> int:
    """Build the image from Debian's and PyPI's packages, once what that takes is installed."""
    print(f"    building {image} from Debian's and PyPI's packages (some minutes the first time)", flush=True)
    kind = "--gpu" if image == LOCAL[True] else "--cpu"
    return subprocess.call(["scripts/mmdebstrap.sh"]) or tfgpu("image", "build", kind, "--tag", image)


def tfgpu(*arguments: str) -> int:
    """Run the package's own command line."""
    return subprocess.call([sys.executable, "-m", "tfgpu_kernel.cli", *arguments])


def settings(image: str, reason: str) -> list[str]:
    """Return the options of ``execute`` for an image, with or without a GPU."""
    return ["--image", image, *(["--no-gpu-required"] if reason else [])]


def said(notebook: Path, pattern: str) -> str:
    """Return what the executed notebook printed after a word."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", ()):
            found = re.search(pattern, output.get("text", ""))
            if found:
                return found[1]
    return "?"


def main() -> int:
    """Choose the image, build it where it can't be pulled, run the example, say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-only", action="store_true", help="only have the image, and print its name")
    only = parser.parse_args().image_only
    image, reason = asyncio.run(choose())
    if image in LOCAL.values():
        code = build(image)
        if code:
            return code
    if reason:
        print(f"\n*** NO GPU: {reason}\n*** The example runs on the CPU instead.\n")
    if only:
        Path("build").mkdir(exist_ok=True)
        options = [f"--TfgpuProvisioner.image={image}"]
        options += ["--TfgpuProvisioner.gpu_required=False"] if reason else []
        Path("build/lab-options").write_text(" ".join(options))
        return 0
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        facts_file = Path(folder, "facts.json")
        code = tfgpu("execute", str(EXAMPLE), "-o", str(RESULT), "--json", str(facts_file), *settings(image, reason))
        if code:
            return code
        facts = json.loads(facts_file.read_text())
    accuracy = said(RESULT, r"test accuracy: ([\d.]+)")
    device = said(RESULT, r"device: (\S+)")
    print(
        f"accuracy {accuracy} on {device}, image {facts['image']} "
        f"({facts['digest'][:19]}), ready after {facts['seconds_to_ready']} s; notebook: {RESULT}"
    )
    return 0 if accuracy != "?" and float(accuracy) >= 0.97 else 1


if __name__ == "__main__":
    sys.exit(main())

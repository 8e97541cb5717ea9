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
from tfgpu_kernel.config import DEFAULT_IMAGE
from tfgpu_kernel.engine import find
from tfgpu_kernel.errors import GpuUnusable, TfgpuError

EXAMPLE: Final = Path("examples/mnist_mlp.ipynb")
RESULT: Final = Path("build/demo/mnist_mlp.ipynb")
LOCAL_IMAGE: Final = "tfgpu/tensorflow:local-cpu"
REGISTRY_SECONDS: Final = 5.0


async def choose() -> tuple[str, str]:
    """Return the image to use, and why there is no GPU (empty where there is one)."""
    engine = find.engine()
    try:
        try:
            await gpus.usable(await engine.info())
            reason = ""
        except GpuUnusable as error:
            reason = error.message
        if await engine.image(DEFAULT_IMAGE) is not None:
            return DEFAULT_IMAGE, reason
        try:
            await engine.registry_digest(DEFAULT_IMAGE, REGISTRY_SECONDS)
        except TfgpuError as error:
            print(f"    {DEFAULT_IMAGE} can't be pulled here: {error.message}")
            return LOCAL_IMAGE, reason
        return DEFAULT_IMAGE, reason
    finally:
        await engine.close()


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
    if image == LOCAL_IMAGE:
        print(f"    building {LOCAL_IMAGE} from Debian's and PyPI's packages (some minutes the first time)")
        sys.stdout.flush()
        code = tfgpu("image", "build", "--cpu", "--tag", LOCAL_IMAGE)
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
        code = tfgpu(
            "execute", str(EXAMPLE), "-o", str(RESULT), "--json", str(facts_file), *settings(image, reason)
        )
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

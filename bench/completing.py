"""How long a kernel's packages take to get into an image that has none of them, and how long of it is downloading.

``python bench/completing.py IMAGE`` forgets what was made of the image before, makes it anew and prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from tfgpu_kernel import labels
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine import find
from tfgpu_kernel.image.ensure import ensure, known
from tfgpu_kernel.image.facts import identity
from tfgpu_kernel.progress import Step, unheard


async def measure(reference: str, *, extras: bool) -> dict[str, object]:
    """Complete an image that has not been completed, and return what that took."""
    engine = find.engine()
    config = KernelConfig(pull="never", extras=extras)
    try:
        base = await engine.image(reference)
        if base is None:
            raise SystemExit(f"There is no image {reference} here.")
        await known(base, reference, engine, unheard)
        for record in await engine.images({labels.IMAGE_BASE: identity(base)}):
            await engine.remove_image(record.id, force=True)
        marks: list[tuple[float, str]] = []
        began = time.monotonic()

        def hear(step: Step) -> None:
            marks.append((time.monotonic() - began, step.text))
            sys.stderr.write(f"{marks[-1][0]:6.1f} s  {step.text}\n")

        ready = await ensure(reference, engine, config, hear)
        seconds = time.monotonic() - began
        # Between these two pip does nothing but resolve and download.
        asked = next(when for when, text in marks if text.startswith("Adding"))
        got = next(when for when, text in marks if text.startswith("Installing"))
        assert ready.record.labels[labels.IMAGE_KIND] == labels.IMAGE_KIND_COMPLETED
        return {
            "image": reference,
            "image_bytes": base.size_bytes,
            "added_bytes": ready.record.size_bytes - base.size_bytes,
            "seconds": round(seconds, 1),
            "of_these_resolving_and_downloading": round(got - asked, 1),
        }
    finally:
        await engine.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", help="an image without ipykernel")
    parser.add_argument("--no-extras", action="store_true", help="add ipykernel alone")
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.image, extras=not given.no_extras)), indent=1))

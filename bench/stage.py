"""Where measurements run: folders of their own, the contenders' kernelspecs, and kernels kept ready."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.images import recipes
from tfgpu_kernel import pool, runfolder, waiting

from . import gateway, local
from .contenders import COLD, WARM, Makings, install
from .driving import started

_READY_SECONDS: Final = 240.0
_SETTLE_SECONDS: Final = 0.7
"""What the machine gets to fall silent after a kernel was made ready."""


@dataclass(frozen=True)
class Stage:
    """A prepared place."""

    work: Path
    """Where notebooks would be."""
    data: Path
    """Jupyter's data folder, for further kernelspecs."""
    makings: Makings
    versions: Mapping[str, str]
    """Of Python and the packages that the contenders' kernels share."""


@contextmanager
def stage(image: str) -> Iterator[Stage]:
    """Prepare for measuring an image; without a name, the tests' image with TensorFlow."""
    image = image or recipes.ensure("tf:py311")
    with tempfile.TemporaryDirectory(prefix="tb-") as made:
        folder = Path(made)
        before = dict(os.environ)
        os.environ |= {"JUPYTER_RUNTIME_DIR": f"{folder}/rt", "JUPYTER_PATH": f"{folder}/share"}
        os.environ.pop("JPY_SESSION_NAME", None)
        try:
            gateway.settle()
            work, data = folder / "work", folder / "share"
            work.mkdir()
            yield asyncio.run(_prepared(work, data, image))
        finally:
            os.environ.clear()
            os.environ.update(before)


async def _prepared(work: Path, data: Path, image: str) -> Stage:
    """Complete the image as a first start does, and make the others' kernels from the same."""
    install(data / "first", Makings(image, "", "python"))
    path = os.environ["JUPYTER_PATH"]
    os.environ["JUPYTER_PATH"] = f"{data}/first"
    async with started(COLD, work) as (driven, _):
        provisioner = driven.manager.provisioner
        completed = provisioner.kernel.image.record.id  # type: ignore[union-attr]
    os.environ["JUPYTER_PATH"] = path
    versions = local.inside(completed)
    makings = Makings(image, gateway.image(completed), local.python(versions))
    install(data, makings)
    return Stage(work, data, makings, versions)


@asynccontextmanager
async def kept_ready(work: Path) -> AsyncIterator[None]:
    """Keep kernels ready in this process, as a server does in its own."""
    kept = pool.Pool()
    kept.start()
    try:
        async with started(WARM, work):
            pass
        await one_ready()
        yield
    finally:
        await kept.stop()


async def one_ready() -> None:
    """Wait until a kernel waits, in whatever process, and the machine is silent again."""
    until = time.monotonic() + _READY_SECONDS
    while not any(waiting.read(run) for run in runfolder.existing()):
        if time.monotonic() > until:
            raise RuntimeError("no kernel was made ready")
        await asyncio.sleep(0.1)
    await asyncio.sleep(_SETTLE_SECONDS)


def is_ready() -> bool:
    """Say whether a kernel waits at this moment."""
    return any(waiting.read(run) for run in runfolder.existing())

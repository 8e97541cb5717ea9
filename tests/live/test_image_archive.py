"""Images carried to a machine without a network are there what they were here, or are refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.registry import random_image
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import ImageNotFound, ImageUnusable
from tfgpu_kernel.image import archive
from tfgpu_kernel.progress import Step, unheard

NAME = "tfgpu-test/carried:1"


@pytest.fixture
def carried(tmp_path: Path) -> Iterator[str]:
    """Make an image of two layers; it is gone afterwards."""
    folder = tmp_path / "content"
    folder.mkdir()
    random_image(NAME, 2, 2, folder)
    yield NAME
    subprocess.run(["docker", "rmi", "--force", NAME], check=False, capture_output=True)


@pytest.fixture
def empty_engine(tmp_path: Path) -> Iterator[Engine]:
    """Run an engine with an empty data root, in a network of its own: it would take docker0 away."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd")
    # Under /tmp, since the path of a socket may have 107 bytes.
    socket = tmp_path / "e.sock"
    (tmp_path / "daemon.json").write_text("{}")
    log = (tmp_path / "dockerd.log").open("wb")
    daemon = subprocess.Popen(
        [
            "unshare", "--net", "dockerd", f"--config-file={tmp_path}/daemon.json", f"--data-root={tmp_path}/data",
            f"--exec-root={tmp_path}/exec", f"--pidfile={tmp_path}/pid", f"--host=unix://{socket}",
            "--bridge=none", "--iptables=false", "--ip6tables=false",
        ],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not socket.exists():
            assert daemon.poll() is None, (tmp_path / "dockerd.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "dockerd did not start within 30 s"
            time.sleep(0.1)
        engine = DockerEngine(f"unix://{socket}")
        yield engine
        asyncio.run(engine.close())
    finally:
        daemon.terminate()
        daemon.wait()
        log.close()


async def test_what_arrives_is_what_was_saved(
    engine: Engine, empty_engine: Engine, carried: str, tmp_path: Path
) -> None:
    """On an engine with an empty data root the image has the identity that it had here."""
    file = tmp_path / "image.tar"
    told: list[Step] = []
    saved = await archive.save([carried], engine, file, told.append)
    assert await empty_engine.image(carried) is None
    assert await archive.load(file, empty_engine, unheard) == saved
    record = await empty_engine.image(carried)
    assert record is not None
    assert record.layers == saved[0].layers
    assert [step.fraction for step in told] == sorted(step.fraction or 0.0 for step in told)
    assert sorted(path.name for path in tmp_path.glob("image*")) == ["image.tar", "image.tar.json"]


async def test_tampered_archive_is_refused(engine: Engine, empty_engine: Engine, carried: str, tmp_path: Path) -> None:
    """A layer changed on the way is noticed, and no image of that name is left."""
    file = tmp_path / "image.tar"
    await archive.save([carried], engine, file, unheard)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 4)
        opened.write(b"another content")
    with pytest.raises(ImageUnusable, match="not what was saved"):
        await archive.load(file, empty_engine, unheard)
    assert await empty_engine.image(carried) is None


async def test_another_image_under_the_name_is_refused(
    engine: Engine, empty_engine: Engine, carried: str, tmp_path: Path
) -> None:
    """An archive that is sound in itself, but not the one that the list beside it speaks of, is refused."""
    file = tmp_path / "image.tar"
    await archive.save([carried], engine, file, unheard)
    listed = archive.beside(file).read_text()
    other = tmp_path / "other"
    other.mkdir()
    random_image(carried, 2, 1, other)
    await archive.save([carried], engine, file, unheard)
    archive.beside(file).write_text(listed)
    with pytest.raises(ImageUnusable, match="not what was saved"):
        await archive.load(file, empty_engine, unheard)
    assert await empty_engine.image(carried) is None


async def test_archive_cut_short_is_refused(engine: Engine, carried: str, tmp_path: Path) -> None:
    """A file that is no whole archive is told from one that was changed."""
    file = tmp_path / "image.tar"
    await archive.save([carried], engine, file, unheard)
    os.truncate(file, 4096)
    with pytest.raises(ImageUnusable, match="cut short"):
        await archive.load(file, engine, unheard)
    with pytest.raises(ImageNotFound):
        await archive.load(tmp_path / "absent.tar", engine, unheard)


async def test_nothing_half_written_is_left(engine: Engine, tmp_path: Path) -> None:
    """Saving what is not here writes no file."""
    with pytest.raises(ImageNotFound):
        await archive.save(["tfgpu-test/absent:1"], engine, tmp_path / "image.tar", unheard)
    assert not list(tmp_path.glob("image*"))

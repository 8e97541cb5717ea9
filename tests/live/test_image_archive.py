"""Images carried to a machine without a network are there what they were here, or are refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.registry import random_image
from tfgpu_kernel import labels
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import ImageNotFound, ImageUnusable
from tfgpu_kernel.image import archive
from tfgpu_kernel.image.ensure import ensure
from tfgpu_kernel.progress import Step, unheard

from .conftest import made

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


async def test_each_way_to_name_an_image_arrives(
    engine: Engine, empty_engine: Engine, carried: str, tmp_path: Path
) -> None:
    """What was saved without a tag, with its registry's address, or by its id, is what the list says, and loads."""
    repository, _, _ = carried.partition(":")
    record = await engine.image(carried)
    assert record is not None
    await engine.tag(record.id, f"{repository}:latest")
    try:
        for given, name in (
            (repository, f"{repository}:latest"), (f"docker.io/{carried}", carried), (record.id, record.tags[0]),
        ):  # fmt: skip
            file = tmp_path / "image.tar"
            saved = await archive.save([given], engine, file, unheard)
            assert [one.reference for one in saved] == [name]
            assert await archive.load(file, empty_engine, unheard) == saved
    finally:
        await engine.remove_image(f"{repository}:latest")


async def test_what_an_archive_cannot_name_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    """An image without a tag is not written where nobody could load it: the error says how to name it."""
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "file").write_text("text")
    bring = f"tar -C {folder} -c . | docker import -"
    made = subprocess.run(["sh", "-c", bring], check=True, capture_output=True, text=True).stdout.strip()
    try:
        with pytest.raises(ImageUnusable, match="has no name here") as caught:
            await archive.save([made], engine, tmp_path / "image.tar", unheard)
        assert f"docker tag {made}" in caught.value.remedy
        assert not list(tmp_path.glob("image*"))
    finally:
        await engine.remove_image(made, force=True)


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_what_was_completed_goes_along(
    engine: Engine, empty_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where no pip reaches anything a kernel's image is ready: it was completed where it was saved."""
    base = made("base")
    file = tmp_path / "image.tar"
    command = [sys.executable, "-m", "tfgpu_kernel.cli", "image", "save", base, "-o", str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "kernels there need no pip: tfgpu-completed/" in said
    await archive.load(file, empty_engine, unheard)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # what is known here isn't known there
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    ready = await ensure(base, empty_engine, KernelConfig(pull="never"), unheard)
    assert ready.record.labels[labels.IMAGE_KIND] == labels.IMAGE_KIND_COMPLETED
    assert len(await empty_engine.images({labels.IMAGE_KIND: labels.IMAGE_KIND_COMPLETED})) == 1


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

"""Pulling, with a real engine from a real registry, behind a proxy that makes a registry's faults."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import recipes, registry
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.errors import ImageNotFound, RegistryUnreachable, TfgpuError
from tfgpu_kernel.image.ensure import present
from tfgpu_kernel.progress import Step, unheard

NAME = "tfgpu-test/random:latest"
LAYERS, MEGABYTES = 4, 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Registry]:
    """Run a registry that has an image nobody else has."""
    folder = tmp_path_factory.mktemp("registry")
    content = tmp_path_factory.mktemp("content")
    try:
        with registry.running(folder) as server:
            registry.random_image(NAME, LAYERS, MEGABYTES, content)
            registry.push(NAME, NAME, server)
            subprocess.run(["docker", "rmi", "--force", NAME], check=True, capture_output=True)
            yield server
    except recipes.RecipeUnavailable as why:
        pytest.skip(str(why))


@pytest.fixture
def reference(server: registry.Registry) -> Iterator[str]:
    """Return the image's name at the registry; the engine doesn't have it, before and after."""
    name = f"{server.address}/{NAME}"
    server.fault = ""
    forget(name)
    yield name
    server.fault = ""
    forget(name)


def forget(name: str) -> None:
    """Remove an image from the engine, and see that it is gone."""
    for _ in range(50):
        said = subprocess.run(["docker", "rmi", "--force", name], check=False, capture_output=True, text=True)
        if subprocess.run(["docker", "image", "inspect", name], check=False, capture_output=True).returncode:
            return
        print(f"docker rmi {name}: {said.stdout}{said.stderr}")
        time.sleep(0.1)
    raise AssertionError(f"{name} is still there: {said.stderr}")


async def test_progress_of_a_pull(engine: Engine, reference: str) -> None:
    """The fractions never go back and end at 1; bytes are told while it downloads."""
    told: list[Step] = []
    record = await present(reference, engine, KernelConfig(), told.append)
    assert len(record.layers) == LAYERS
    assert record.digest.startswith("sha256:")
    fractions = [step.fraction for step in told if step.fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"resolving", "downloading", "unpacking"} <= {step.phase for step in told}
    assert told[-1].total is not None
    assert told[-1].total >= LAYERS * MEGABYTES * 2**20


async def test_two_at_once_make_one_pull(engine: Engine, reference: str, server: registry.Registry) -> None:
    """Launches that need the same image share one pull, and both hear of its progress."""
    server.fault = "slow"
    server.pulls = 0
    heard: list[list[Step]] = [[], []]
    one, two = await asyncio.gather(*(present(reference, engine, KernelConfig(), h.append) for h in heard))
    assert one == two
    assert server.pulls == 1
    assert [step.fraction for step in heard[0]][-1] == [step.fraction for step in heard[1]][-1] == 1.0


async def test_cancel_leaves_nothing_and_the_next_try_goes_on(
    engine: Engine, reference: str, server: registry.Registry
) -> None:
    """A pull cancelled on its way leaves no dangling image; the next one ends well."""
    before = dangling()
    server.fault = "slow"
    begun = asyncio.Event()

    def hear(step: Step) -> None:
        if step.done and step.done > MEGABYTES * 2**20:
            begun.set()

    task = asyncio.create_task(present(reference, engine, KernelConfig(), hear))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await engine.image(reference) is None
    assert dangling() == before
    server.fault = ""
    assert len((await present(reference, engine, KernelConfig(), unheard)).layers) == LAYERS


@pytest.mark.parametrize(
    ("fault", "kind", "message", "remedy"),
    [
        ("401", ImageNotFound, "log in", "docker login"),
        ("403", RegistryUnreachable, "refuses", "mirror"),
        ("404", ImageNotFound, "none of that name", "name and tag"),
        ("429", RegistryUnreachable, "too many downloads", "docker login"),
    ],
)
async def test_each_fault_has_its_own_words(
    engine: Engine,
    reference: str,
    server: registry.Registry,
    fault: registry.Fault,
    kind: type[TfgpuError],
    message: str,
    remedy: str,
) -> None:
    """What a registry does wrong is told apart, with what to do about it, and names the image."""
    server.fault = fault
    with pytest.raises(kind) as caught:
        await present(reference, engine, KernelConfig(), unheard)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert reference in caught.value.message
    assert await engine.image(reference) is None


async def test_login_comes_from_dockers_own_configuration(
    engine: Engine,
    reference: str,
    server: registry.Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A credential helper that Docker's configuration names is asked; without a login the registry lets nobody in."""
    server.fault = "login"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(TfgpuError):
        await present(reference, engine, KernelConfig(), unheard)
    helper = tmp_path / "docker-credential-fake"
    user, secret = registry.LOGIN
    answer = json.dumps({"ServerURL": server.address, "Username": user, "Secret": secret})
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {server.address: "fake"}}))
    assert len((await present(reference, engine, KernelConfig(), unheard)).layers) == LAYERS


@pytest.mark.filterwarnings("ignore:docker-credential-desktop not installed")
@pytest.mark.parametrize("says", ["", "exec format error"])
async def test_credential_helper_that_does_not_run(
    engine: Engine,
    reference: str,
    server: registry.Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str,
) -> None:
    """What Docker Desktop left behind hinders no pull and no build; where a login is needed, it is named."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "desktop"}))
    if says:
        helper = tmp_path / "docker-credential-desktop"
        helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{says}'\nexit 1\n")
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    server.fault = "login"
    with pytest.raises(ImageNotFound, match="only to those who log in") as caught:
        await present(reference, engine, KernelConfig(), unheard)
    assert "The credential helper desktop in".lower() in caught.value.remedy.lower()
    with pytest.raises(ImageNotFound) as caught:
        await engine.registry_digest(reference, 10)
    assert "remove credsStore" in caught.value.remedy
    server.fault = ""
    assert (await engine.registry_digest(reference, 10)).startswith("sha256:")
    assert len((await present(reference, engine, KernelConfig(), unheard)).layers) == LAYERS
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            text = f"FROM {reference}\n".encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        context = buffer.getvalue()
    said = [event.status async for event in engine.build(context, tag=reference, labels={})]
    assert any("Successfully built" in status for status in said)


async def test_cut_connections_are_taken_up_again(engine: Engine, reference: str, server: registry.Registry) -> None:
    """A registry that hangs up amid each layer only costs time: the engine goes on where it was."""
    server.fault = "cut"
    server.blob_bytes = 0
    assert len((await present(reference, engine, KernelConfig(), unheard)).layers) == LAYERS
    assert server.blob_bytes < 2 * LAYERS * MEGABYTES * 2**20


async def test_pull_has_a_limit_of_its_own(engine: Engine, reference: str, server: registry.Registry) -> None:
    """A slow registry blocks a launch no longer than pull_timeout says."""
    server.fault = "slow"
    began = asyncio.get_running_loop().time()
    with pytest.raises(RegistryUnreachable, match="pull_timeout"):
        await present(reference, engine, KernelConfig(pull_timeout=2.0), unheard)
    assert asyncio.get_running_loop().time() - began < 5


async def test_pull_never_asks_no_registry(engine: Engine, reference: str, server: registry.Registry) -> None:
    """With pull=never an absent image is an error at once."""
    server.manifests = 0
    with pytest.raises(ImageNotFound, match="pull is set to never"):
        await present(reference, engine, KernelConfig(pull="never"), unheard)
    assert server.manifests == 0


async def test_pull_always_looks_for_a_newer_one(engine: Engine, reference: str, server: registry.Registry) -> None:
    """With pull=always the registry is asked although the image is here."""
    await present(reference, engine, KernelConfig(), unheard)
    server.blob_bytes, server.pulls = 0, 0
    await present(reference, engine, KernelConfig(pull="always"), unheard)
    assert server.pulls >= 1, "nobody asked"
    assert server.blob_bytes == 0, "what is here was downloaded again"


def dangling() -> list[str]:
    """Return the engine's images without a name."""
    listing = ["docker", "images", "--quiet", "--filter", "dangling=true"]
    return subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()

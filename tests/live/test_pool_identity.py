"""A claimed kernel is like a cold one: for its cells, for clients on its channels, and for the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tests.images import recipes
from tfgpu_kernel import quiet

from . import probe
from .conftest import install, made
from .driving import Driven, kernel
from .test_pool import container_of, keeping, one_ready

# What differs; docs/warm.md says why. In a kernel with nothing imported ahead it is the first alone.
ALWAYS: Final = {"host CpuShares"}
WITH_MODULES: Final = ALWAYS | {"modules", "importers", "files", "hooks"}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


async def told_by(driven: Driven) -> dict[str, Any]:
    """Return all that is found out of a kernel."""
    container = probe.of_container(container_of(driven))  # before a debugger changes anything
    return {**await probe.of_cells(driven), **await probe.of_channels(driven), **container}


def differences(cold: dict[str, Any], warm: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what two kernels say differently."""
    return {name: (cold[name], warm.get(name)) for name in cold if cold[name] != warm.get(name)}


async def both(workspace: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a cold kernel says, and one that was claimed."""
    env = {"JPY_SESSION_NAME": str(workspace / "a.ipynb"), "MINE": "1"}
    async with keeping() as kept:
        async with kernel(workspace, name, env=env) as driven:
            cold = await told_by(driven)
            ready = await one_ready(kept)
        async with kernel(workspace, name, env=env) as driven:
            assert container_of(driven) == ready.container
            return cold, await told_by(driven)


async def test_claimed_kernel_is_like_a_cold_one(kernels: Path, workspace: Path, slim: str) -> None:
    """Environment, limits, labels, files, channels, debugger and subshells are those of a cold kernel."""
    install(kernels.parents[1], "tfgpu", "--image", slim, "--gpus", "none", "--memory", "1g", "--cpus", "1.5")
    cold, warm = await both(workspace, "tfgpu")
    assert set(differences(cold, warm)) <= ALWAYS, differences(cold, warm)
    assert "1073741824" in cold["cgroup"]
    assert cold["connection"][0] is True
    assert cold["input"] == "who? me\n"
    assert cold["debugger"][2]["success"] is True
    assert cold["subshells"][:2] == ["ok", {"text/plain": "False"}]


async def test_restart_that_claims_is_like_a_cold_one(kernels: Path, workspace: Path) -> None:
    """After a restart a client finds on its old channels, under the old key, what a first start gave it."""
    env = {"JPY_SESSION_NAME": str(workspace / "a.ipynb"), "MINE": "1"}
    async with keeping() as kept, kernel(workspace, env=env) as driven:
        cold = await told_by(driven)
        ready = await one_ready(kept)
        await driven.restart()
        assert container_of(driven) == ready.container
        warm = await told_by(driven)
    assert set(differences(cold, warm)) <= ALWAYS, differences(cold, warm)


@pytest.mark.nightly
@pytest.mark.parametrize("image", ["tf:py311", "frozen:py36"])
async def test_modules_imported_ahead_change_little(kernels: Path, workspace: Path, image: str) -> None:
    """With TensorFlow imported ahead only the listed things differ, and none of its own modules shows."""
    install(kernels.parents[1], "tf", "--image", made(image), "--gpus", "none")
    cold, warm = await both(workspace, "tf")
    assert set(differences(cold, warm)) <= WITH_MODULES, differences(cold, warm)
    more = set(eval(warm["modules"])) - set(eval(cold["modules"]))  # noqa: S307 - a list of words
    assert not more & {"tensorflow", "keras", "numpy", "h5py", "absl", "google", "matplotlib", "six"}
    files = set(eval(warm["files"])) - set(eval(cold["files"]))  # noqa: S307
    assert files <= {"/tfgpu/home/.keras/keras.json"}
    assert recipes.reference(image) == cold["labels"]["io.tfgpu.image"]

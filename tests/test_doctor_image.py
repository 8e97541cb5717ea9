"""The doctor looks at the image that a kernel would run on this machine, and takes a bad name for no broken engine."""

from __future__ import annotations

from typing import cast

import pytest

from tfgpu_kernel.config import DEFAULT_IMAGE
from tfgpu_kernel.engine.base import Engine, EngineInfo, ImageRecord
from tfgpu_kernel.errors import EngineRefused, TfgpuError
from tfgpu_kernel.gpu import nvml
from tfgpu_kernel.health import Examined, examine
from tfgpu_kernel.health.findings import Finding


class OneImage:
    """An engine that is asked for its kind and for an image alone."""

    address = "unix:///nowhere.sock"

    def __init__(self, image: ImageRecord | TfgpuError | None = None) -> None:
        self._image = image

    async def info(self) -> EngineInfo:
        return EngineInfo("27.0", "1.47", "linux", "x86_64", "here", "Debian", (), False, False, "/nowhere", 2, 2**33)

    async def image(self, reference: str) -> ImageRecord | None:
        if isinstance(self._image, TfgpuError):
            raise self._image
        return self._image


@pytest.fixture(params=[(7, 5), (8, 0), (12, 0)], ids=["Turing", "Ampere", "Blackwell"])
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Give this machine a GPU."""
    gpu = nvml.Gpu(0, "GPU-1", "A GPU", request.param, None, None)

    async def sample(_: float) -> nvml.Sample:
        return nvml.Sample("570.1", (gpu,), (), (12, 8))

    monkeypatch.setattr(nvml, "sample_async", sample)
    return cast(tuple[int, int], request.param)


async def look(setting: str, image: ImageRecord | TfgpuError | None = None) -> tuple[Examined, dict[str, Finding]]:
    """Examine; return the findings by name, too."""
    examined = await examine(cast(Engine, OneImage(image)), setting)
    return examined, {finding.name: finding for finding in examined.findings}


async def test_auto_is_what_a_kernel_would_run(capability: tuple[int, int]) -> None:
    """A GPU that the usual image has no code for gets the image that kernels get there; how to get it is told."""
    expected = {
        (7, 5): DEFAULT_IMAGE, (8, 0): "tensorflow/tensorflow:2.17.0-gpu", (12, 0): "tfgpu/tensorflow:2.21-gpu",
    }[capability]  # fmt: skip
    examined, found = await look("auto")
    assert examined.image == expected
    assert expected in found["image"].message
    wanted = "image build --gpu" if expected.startswith("tfgpu/") else f"docker pull {expected}"
    assert wanted in found["image"].remedy


async def test_a_preset_is_its_image() -> None:
    """A preset's short name is no image's."""
    assert (await look("tf2.17-gpu"))[0].image == "tensorflow/tensorflow:2.17.0-gpu"


async def test_a_bad_name_is_the_names_fault() -> None:
    """The engine answers, though it refuses the name; so the name is to be mended, and not the engine."""
    refusal = EngineRefused("Refused.", "read on.", "invalid reference format")
    _, found = await look("TensorFlow/x", refusal)
    assert found["engine"].state == "ok"
    assert found["image"].state == "broken"
    assert found["image"].details == "invalid reference format"
    assert "small letters" in found["image"].remedy
    assert found["fit"].state == "not reached"

"""``/tfgpu/preset``, and which failures offer which buttons."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tfgpu_kernel.errors import EngineRefused, GpusTaken, ImageUnusable, KernelDied, TfgpuError
from tfgpu_kernel.image.choice import suiting
from tfgpu_kernel.image.ensure import warned
from tfgpu_kernel.image.foresight import foresee
from tfgpu_kernel.image.hardware import Hardware
from tfgpu_kernel.image.presets import named
from tfgpu_kernel.launches import Launch, advance
from tfgpu_kernel.progress import Step
from tfgpu_kernel.server.actions import actions
from tfgpu_kernel.server.preset import with_preset
from tfgpu_kernel.server.records import launch_state

pytest_plugins = ["pytest_jupyter.jupyter_server"]
Fetch = Callable[..., Awaitable[Any]]
SPEC: dict[str, Any] = {
    "argv": ["tfgpu"],
    "display_name": "TensorFlow GPU (Docker)",
    "language": "python",
    "metadata": {
        "debugger": True,
        "kernel_provisioner": {
            "provisioner_name": "tfgpu-docker-provisioner",
            "config": {"image": "tensorflow/tensorflow:latest-gpu-py3", "memory": "8g"},
        },
    },
}


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"tfgpu_kernel": True}}}


@pytest.fixture
def kernel(jp_data_dir: Path) -> Path:
    """Make a launcher entry; return the folder of all."""
    folder = jp_data_dir / "kernels/old"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(SPEC))
    (folder / "logo-svg.svg").write_text("<svg/>")
    return folder.parent


async def test_an_entry_gets_another_image_under_a_new_name(kernel: Path, jp_fetch: Fetch) -> None:
    """All else of the entry stays, its logo included; the old one is as it was; twice makes no third."""
    for name in ("old", "old-with-tf2.17-gpu"):
        body = json.dumps({"kernel_name": name, "preset": "tf2.17-gpu"})
        answer = json.loads((await jp_fetch("tfgpu", "preset", method="POST", body=body)).body)
        assert answer == {"kernel_name": "old-with-tf2.17-gpu"}
    made = json.loads((kernel / "old-with-tf2.17-gpu/kernel.json").read_text())
    assert made["display_name"] == "TensorFlow GPU (Docker), image tf2.17-gpu"
    assert made["metadata"]["kernel_provisioner"]["config"] == {"image": "tf2.17-gpu", "memory": "8g"}
    assert (kernel / "old-with-tf2.17-gpu/logo-svg.svg").exists()
    assert json.loads((kernel / "old/kernel.json").read_text()) == SPEC
    assert sorted(folder.name for folder in kernel.glob("old*")) == ["old", "old-with-tf2.17-gpu"]


async def test_what_is_not_ours_is_left_alone(kernel: Path, jp_fetch: Fetch) -> None:
    """No other kernel gets an image, and no image goes in that is no preset."""
    for body, code in (
        ({"kernel_name": "python3", "preset": "tf2.17-gpu"}, 404),
        ({"kernel_name": "none", "preset": "tf2.17-gpu"}, 404),
        ({"kernel_name": "old", "preset": "evil.example/image"}, 400),
        ([], 400),
    ):
        with pytest.raises(HTTPClientError) as refused:
            await jp_fetch("tfgpu", "preset", method="POST", body=json.dumps(body))
        assert refused.value.code == code


async def test_the_preset_suits_the_machine(jp_fetch: Fetch) -> None:
    """On a machine with no GPU that is one for the CPU."""
    answer = json.loads((await jp_fetch("tfgpu", "preset")).body)
    preset = named(answer["name"])
    assert preset is not None and not preset.gpu and answer["reference"] == preset.reference


def test_another_image_is_made_of_an_entry_without_settings() -> None:
    """An entry whose kernel.json sets nothing gets the image as its only setting."""
    preset = named("tf2.17-gpu")
    assert preset is not None
    spec = with_preset({**SPEC, "metadata": {"kernel_provisioner": {"provisioner_name": "x"}}}, preset)
    assert spec["metadata"]["kernel_provisioner"] == {"provisioner_name": "x", "config": {"image": "tf2.17-gpu"}}


@pytest.mark.parametrize(
    ("error", "offered"),
    [
        (GpusTaken("", ""), ("free-gpu", "retry")),
        (ImageUnusable("", ""), ("retry", "use-preset")),
        (KernelDied("", "", "no kernel image is available for execution on the device"), ("use-preset", "retry")),
        (KernelDied("", "", "Killed"), ("retry",)),
        (
            EngineRefused("", "", "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.3"),
            ("use-preset", "retry", "open-doctor"),
        ),
        (TfgpuError("", ""), ("retry",)),
    ],
)
def test_what_a_click_can_do(error: TfgpuError, offered: tuple[str, ...]) -> None:
    """A failure that another image ends offers one; GPUs that others hold offer to end one of these."""
    assert actions(error) == offered


def test_an_old_image_on_a_new_gpu_is_told_with_the_preset() -> None:
    """The frozen tag on compute capability 8.0 or newer: the page learns which preset to take instead."""
    machine = Hardware(gpus=(("A100", (8, 0)),), cuda=(12, 8))
    launch = Launch("k1", "tfgpu", "", restart=False)
    told: list[Step] = []
    warned(foresee("tensorflow/tensorflow:latest-gpu-py3", machine), told.append, machine)
    for step in told:
        advance(launch, step)
    assert launch_state(launch, "/").preset == suiting(machine).name == "tf2.17-gpu"

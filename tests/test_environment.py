"""What of the server's environment enters a kernel: nothing of it, at a restart neither."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from traitlets import Unicode

from tfgpu_kernel import ports, sweep
from tfgpu_kernel.engine import find
from tfgpu_kernel.errors import EngineNotFound
from tfgpu_kernel.launch import Kernel
from tfgpu_kernel.provisioner import TfgpuProvisioner


class Multi(AsyncMultiKernelManager):
    """A manager of many kernels, as a server has one."""

    root_dir = Unicode("/srv")


class Manager(AsyncMultiKernelManager):
    """Stands for the manager of one kernel; only its parent counts here."""

    kernel_name = "tfgpu"

    def cleanup_connection_file(self) -> None:
        """Do nothing."""


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that starts with an environment, and gives what the container would get of it."""
    seen: list[Mapping[str, str]] = []

    async def prepare(request: Any, *given: Any) -> Any:
        seen.append(request.env)
        raise EngineNotFound("enough is seen", "")

    async def once(*given: Any) -> None: ...

    monkeypatch.setattr("tfgpu_kernel.provisioner.prepare", prepare)
    monkeypatch.setattr(sweep, "once", once)
    monkeypatch.setattr(find, "engine", lambda: None)
    monkeypatch.setattr(ports, "_public", {"base": "/"})
    kernel = TfgpuProvisioner(
        kernel_id="k", kernel_spec=KernelSpec(env={"NAMED": "kernel.json's"}), parent=Manager(parent=Multi())
    )

    def launch(env: Mapping[str, str]) -> Mapping[str, str]:
        async def start() -> None:
            with pytest.raises(EngineNotFound):
                await kernel.launch_kernel(**await kernel.pre_launch(env=dict(env)))

        asyncio.run(start())
        return seen[-1]

    launch.kernel = kernel  # type: ignore[attr-defined]
    return launch


def test_a_restart_leaks_no_secret_of_the_server(launched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """jupyter_client keeps the whole environment of the start, and a rename puts that of then into it: what was changed
    or removed since is no addition of the caller's. The caller's own stays, and the notebook's name is the new one."""
    monkeypatch.setenv("TOKEN", "first")
    kept = {**os.environ, "JPY_SESSION_NAME": "/srv/a.ipynb", "MINE": "1"}
    ports = {"TENSORBOARD_PROXY_URL": "/tfgpu/kernels/k/proxy/%PORT%/", "TFGPU_PROXY_URL": "/tfgpu/kernels/k/proxy/"}
    mine = {"MINE": "1", "NAMED": "kernel.json's", **ports}
    assert launched(kept) == {**mine, "JPY_SESSION_NAME": "/srv/a.ipynb"}
    launched.kernel._kernel = object.__new__(Kernel)  # as after a start that worked
    object.__setattr__(launched.kernel._kernel, "connection", None)
    monkeypatch.setenv("TOKEN", "second")
    kept |= {**os.environ, "JPY_SESSION_NAME": "/srv/b.ipynb"}
    monkeypatch.delenv("TOKEN")
    assert launched(kept) == {**mine, "JPY_SESSION_NAME": "/srv/b.ipynb"}

"""How long a kernel outlives its server is its own setting: a busy one longer than an idle one, and never less."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.live.conftest import install
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.sweep import sweep

from .serving import Server


@pytest.mark.nightly
async def test_graces(server: Server, kernels: Path, slim: str, engine: Engine) -> None:
    """The idle one goes when its grace is over and not before, the busy one later; a sweep between them spares both."""
    common = ("--image", slim, "--gpus", "none", "--pool-size", "0")
    install(kernels.parents[1], "mortal", *common, "--grace-idle", "6", "--grace-busy", "40")
    idle, busy = (server.session(f"{name}.ipynb", "mortal")["kernel"]["id"] for name in ("idle", "busy"))
    with server.page(busy) as page:
        page.send("import time; time.sleep(600)")
        await asyncio.sleep(1)
        server.kill()
    gone: dict[str, float] = {}
    began = time.monotonic()
    while len(gone) < 2:
        for orphan in await sweep(engine):
            assert orphan.state is not None
            gone[orphan.state.kernel_id] = time.monotonic() - began
        assert time.monotonic() - began < 120
        await asyncio.sleep(1)
    print(f"idle (6 s) gone after {gone[idle]:.1f} s, busy (40 s) after {gone[busy]:.1f} s")
    assert 6 <= gone[idle] < gone[busy]
    assert gone[busy] >= 40

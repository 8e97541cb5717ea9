"""The extension's end: whatever fails in it, and however often it is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest

from tfgpu_kernel import adopt
from tfgpu_kernel.server.app import TfgpuApp
from tfgpu_kernel.server.sampler import Sampler


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_part_that_fails_keeps_no_other_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that wait are removed, those that outlive the server let go of, a sampler that had died or not; once."""
    ended: list[str] = []

    def part(name: str, *, fails: bool = False) -> Any:
        async def close() -> None:
            ended.append(name)
            if fails:
                raise RuntimeError(name)

        return SimpleNamespace(close=close, stop=close)

    def broken() -> set[str]:
        raise RuntimeError("the sampler is ill")

    async def stop() -> None:
        sampler = Sampler(broken, lambda container: asyncio.sleep(0, 0), every=0.01)
        sampler.wake()
        while sampler.works:
            await asyncio.sleep(0.01)
        app: Any = SimpleNamespace(
            _ending=None, _stop_waking=lambda: ended.append("waking"), _feed=SimpleNamespace(close=lambda: None),
            _sweeping=None, _jobs=part("jobs", fails=True), _doctor=part("doctor"), _idle=part("idle"),
            _sampler=sampler, _pulse=part("pulse"), _pool=part("pool"), _given_up=part("given up"),
            _lock=os.open("/dev/null", os.O_RDONLY),
            serverapp=SimpleNamespace(kernel_manager=None), log=logging.getLogger("tfgpu.test"),
        )  # fmt: skip
        app._end = lambda: TfgpuApp._end(app)
        first = asyncio.ensure_future(TfgpuApp.stop_extension(app))
        await asyncio.sleep(0)
        await TfgpuApp.stop_extension(app)
        # Who asks a second time waits for the end, or Jupyter shuts down what was to be let go.
        assert ended[-1] == "given up"
        await first

    monkeypatch.setattr(adopt, "let_go", lambda multi, log: ended.append("let go"))
    asyncio.run(stop())
    assert ended == ["let go", "waking", "jobs", "doctor", "idle", "pulse", "pool", "given up"]

"""The true smoke tests, on a machine that has an NVIDIA GPU, its driver, and an engine that lends it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfgpu_kernel.engine import find
from tfgpu_kernel.gpu import nvml
from tfgpu_kernel.health import examine, first_broken
from tfgpu_kernel.health.text import lines

pytestmark = pytest.mark.gpu

IMAGE = os.environ.get("TFGPU_TEST_IMAGE", "tensorflow/tensorflow:2.17.0-gpu")

_KERNEL = """
import asyncio, json, os, sys
from jupyter_client.manager import AsyncKernelManager

CODE = '''
import json, subprocess, tensorflow as tf
gpus = [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
with tf.device("/GPU:0"):
    total = float(tf.reduce_sum(tf.linalg.matmul(tf.ones((512, 512)), tf.ones((512, 512)))))
listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
print(json.dumps([gpus, total, listed]))
'''

async def main():
    manager = AsyncKernelManager(kernel_name="real")
    await manager.start_kernel(cwd=sys.argv[1], env=dict(os.environ))
    try:
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=300)
        told = []
        await client.execute_interactive(
            CODE, timeout=600, output_hook=lambda message: told.append(message["content"].get("text", "")))
        client.stop_channels()
        result = next(line for line in "".join(told).splitlines() if line.startswith("[["))
        print(json.dumps([manager.provisioner._kernel.gpu.uuids, json.loads(result)]))
    finally:
        await manager.shutdown_kernel(now=True)

asyncio.run(main())
"""


def test_the_doctor_finds_nothing_broken() -> None:
    """Every rung holds, from the driver to a right matrix product that is faster than the CPU's."""

    async def look() -> str:
        engine = find.engine()
        try:
            findings = (await examine(engine, IMAGE, containers=True)).findings
        finally:
            await engine.close()
            find.forget(engine)
        print("\n".join(lines(findings)))
        broken = first_broken(findings)
        assert all(finding.state != "not reached" for finding in findings if finding.part == "ladder")
        return broken.name if broken else ""

    assert asyncio.run(look()) == ""


def test_a_kernel_computes_on_the_gpu_it_was_given(tmp_path: Path) -> None:
    """TensorFlow in a kernel sees one GPU, the one that was granted, and computes rightly on it."""
    env = os.environ | {"JUPYTER_PATH": str(tmp_path / "prefix/share/jupyter")}
    install = ["-m", "tfgpu_kernel.cli", "install", "--name", "real", "--prefix", str(tmp_path / "prefix")]
    subprocess.run([sys.executable, *install, "--image", IMAGE, "--gpus", "1"], check=True, env=env)
    done = subprocess.run(
        [sys.executable, "-c", _KERNEL, str(tmp_path)], env=env, check=True, capture_output=True, text=True
    )
    uuids, (gpus, total, listed) = json.loads(done.stdout.splitlines()[-1])
    known = {gpu.uuid for gpu in nvml.sample().gpus}
    assert len(uuids) == len(gpus) == 1
    assert [uuid for uuid in known if uuid in listed] == uuids
    assert total == 512.0**3

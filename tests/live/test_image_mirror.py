"""The image that everybody names, pulled by that very name from a registry on loopback that mirrors the public one."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import engine as own_engine
from tests.doubles.engine import Daemon
from tests.images import recipes, registry
from tfgpu_kernel.config import AUTO, DEFAULT_IMAGE, KernelConfig
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.image import choice, ensure
from tfgpu_kernel.image.hardware import Hardware
from tfgpu_kernel.progress import Step, unheard

PORT = 5000

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("nsenter") is None,
        reason="an engine and a network of one's own need root, dockerd and nsenter",
    ),
]


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[Daemon]:
    """Run an empty engine whose mirror has the frozen stack under its public name."""
    try:
        frozen = recipes.ensure("frozen:py36")
        with registry.running(tmp_path) as server:
            registry.push(frozen, DEFAULT_IMAGE, server)
    except recipes.RecipeUnavailable as why:
        pytest.skip(str(why))
    with own_engine.running({}, f"--registry-mirror=http://127.0.0.1:{PORT}") as daemon:
        # The engine has a network of its own, so the registry moves in with it.
        inside = ["nsenter", f"--net=/proc/{(daemon.folder / 'pid').read_text()}/ns/net"]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        program = shutil.which("docker-registry") or ""
        server_process = subprocess.Popen(
            [*inside, program, "serve", str(registry.configured(tmp_path, PORT))],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            time.sleep(1)
            yield daemon
        finally:
            server_process.terminate()
            server_process.wait()


def test_auto_pulls_the_frozen_stack_by_its_public_name(mirrored: Daemon) -> None:
    """``auto`` names ``latest-gpu-py3``, which is really pulled, with progress, and really is TensorFlow 2.1 on 3.6."""

    async def pull() -> None:
        engine = DockerEngine(mirrored.host)
        told: list[Step] = []
        try:
            reference = choice.choose(AUTO, Hardware()).reference
            assert reference == "tensorflow/tensorflow:latest-gpu-py3"
            record = await ensure.present(reference, engine, KernelConfig(), told.append)
            assert record.digests[0].startswith("tensorflow/tensorflow@sha256:")
            facts = await ensure.known(record, reference, engine, unheard)
            assert (facts.python[:2], facts.tensorflow) == ((3, 6), "2.1.0")
        finally:
            await engine.close()
        fractions = [step.fraction for step in told if step.fraction is not None]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0

    asyncio.run(pull())
    done = mirrored.docker(
        "run", "--rm", "--network=none", "--user=1000:1000", "--env=HOME=/tmp", DEFAULT_IMAGE, "python", "-c",
        "import tensorflow as tf; print(tf.__version__, float(tf.reduce_sum(tf.ones([2, 2]))))",
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "2.1.0 4.0", done.stdout[-2000:]

"""Whether a container costs training time: the same epochs on the host and inside, in pairs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .contenders import COLD, LOCAL, OURS
from .driving import started
from .figures import median, upper_bound_of_median
from .results import Result
from .rounds import Rounds
from .stage import Stage

_PREPARE = """
import os, time
import numpy as np
import tensorflow as tf
tf.keras.utils.set_random_seed(1)
with np.load("mnist.npz") as data:
    x, y = data["x_train"][:30000].reshape(-1, 784).astype("float32") / 255, data["y_train"][:30000]
model = tf.keras.Sequential([tf.keras.Input((784,)), tf.keras.layers.Dense(256, "relu"), tf.keras.layers.Dense(10)])
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])
model.fit(x, y, batch_size=128, epochs=1, verbose=0)
"""
_EPOCH = "began = time.perf_counter()\nmodel.fit(x, y, batch_size=128, epochs=1, verbose=0)"
_SECONDS = "time.perf_counter() - began"


async def measure(stage: Stage, rounds: Rounds) -> Result:
    """Train an epoch on each side in turn; who begins alternates."""
    _mnist(stage.work)
    result = Result("training")
    async with started(LOCAL, stage.work) as (host, _), started(COLD, stage.work) as (inside, _):
        sides = [(LOCAL, host), (OURS, inside)]
        for _, driven in sides:
            await driven.value(_PREPARE, "1")
        for number in rounds:
            for side, driven in sides if number % 2 else sides[::-1]:
                result.add("an epoch on 30,000 MNIST digits", side, float(await driven.value(_EPOCH, _SECONDS)))
    told = result.series["an epoch on 30,000 MNIST digits"]
    ratios = [inner / outer for inner, outer in zip(told[OURS], told[LOCAL], strict=True)]
    result.facts = {"pairs": len(ratios), "median ratio, container to host": round(median(ratios), 4)}
    if len(ratios) >= 5:
        result.facts["the true median ratio is below, with 95 % confidence"] = round(upper_bound_of_median(ratios), 4)
    return result


def _mnist(work: Path) -> None:
    root = Path(__file__).parents[1]
    kept = root / ".cache/bench/mnist.npz"
    subprocess.run([sys.executable, str(root / "scripts/mnist.py"), str(kept)], check=True, capture_output=True)
    shutil.copy(kept, work)

"""The rungs that take a container: start one with a GPU as a kernel gets it, and let it tell what it sees."""

from __future__ import annotations

import asyncio
import importlib.resources
import json
import os
from typing import Any, Final

from ..engine.base import Engine, EngineInfo, ImageRecord
from ..engine.events import outcome
from ..engine.passing import passing
from ..errors import GpuUnusable, ImageUnusable, TfgpuError
from ..gpu import nvml, units
from ..gpu.request import CDI_KIND, RUNTIME, Way, cdi_name, request
from ..labels import KIND, KIND_PROBE, OWNER, UID
from ..owner import Owner
from .facts import Facts, Inside

SECONDS: Final = 180.0
"""On a GPU that an old image has no code for, the first product compiles for very long."""


async def look(engine: Engine, facts: Facts) -> Inside | TfgpuError | None:
    """Run the probe in a container; None where nothing can be started yet."""
    info, image, sample = facts.engine, facts.image, facts.sample
    if not (isinstance(info, EngineInfo) and isinstance(image, ImageRecord) and isinstance(sample, nvml.Sample)):
        return None
    lendable = units.units(sample)
    if not lendable:
        return None
    unit = units.best(lendable, {})[0]
    name = cdi_name(unit.uuid, unit.place, info.cdi_devices)
    way: Way = "runtime" if RUNTIME in info.runtimes else "cdi" if name else "device-request"
    asked = request((unit.uuid,), way, [name or f"{CDI_KIND}={unit.uuid}"])
    code = importlib.resources.files(__package__).joinpath("inside.py").read_text()
    body: dict[str, Any] = {
        "Image": image.id,
        "Entrypoint": [],
        "Cmd": ["python3", "-c", code],
        "User": f"{os.geteuid()}:{os.getegid()}" if not info.rootless else "0:0",
        "Env": [*(f"{key}={value}" for key, value in asked.env.items()), "TF_FORCE_GPU_ALLOW_GROWTH=true"],
        "Labels": {KIND: KIND_PROBE, OWNER: str(Owner.current()), UID: str(os.geteuid())},
        "NetworkDisabled": True,
        "HostConfig": {
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", *(["label=disable"] if info.selinux else [])],
            "NetworkMode": "none",
            **asked.host_config,
        },
    }
    try:
        return await _run(engine, body, facts.reference)
    except TfgpuError as error:
        return error


async def _run(engine: Engine, body: dict[str, Any], reference: str) -> Inside:
    async with passing(engine, body) as made:
        end = engine.watch(made)
        try:
            await engine.start(made)
            await asyncio.wait_for(outcome(end), SECONDS)
        except asyncio.TimeoutError:
            raise GpuUnusable(
                f"The probe didn't end within {SECONDS:g} s: the GPU hangs, or the image compiles all code for it.",
                "look at nvidia-smi on the host; choose a newer image, such as tensorflow/tensorflow:2.17.0-gpu.",
                await engine.logs(made, 30),
            ) from None
        finally:
            engine.unwatch(made)
        text = await engine.logs(made, 400)
    try:
        told = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise ImageUnusable(
            f"The probe could not run in the image {reference}.", "choose an image with Python 3.", text
        ) from None
    gpus = told.pop("gpus", None)
    return Inside(**told, gpus=None if gpus is None else tuple(gpus))

"""``/tfgpu/preset``: the newest image that is known to work on this machine, and a launcher entry with it.

Nothing that exists is changed: what kernel.json says is copied under a new name with another image, for this user.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from ..engine import find
from ..errors import TfgpuError
from ..gpu import nvml
from ..image.choice import suiting
from ..image.hardware import Hardware, free_bytes
from ..image.presets import Preset, named
from ..overlay import PROVISIONER
from .sampler import Sampler


@dataclass(frozen=True)
class PresetState:
    """A preset; fields as in :class:`tfgpu_kernel.image.presets.Preset`."""

    name: str
    reference: str
    inside: str
    size_bytes: int
    built: bool


class PresetHandler(APIHandler):
    """``GET`` and ``POST /tfgpu/preset``."""

    auth_resource = "tfgpu"

    def initialize(self, sampler: Sampler) -> None:
        """Take what the app owns."""
        self.sampler = sampler

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer the :class:`PresetState` that suits this machine."""
        moment = await self.sampler.latest()
        chosen = suiting(await _hardware(moment.sample))
        self.finish(asdict(PresetState(chosen.name, chosen.reference, chosen.inside, chosen.size_bytes, chosen.built)))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Take ``{"kernel_name", "preset"}``; answer ``{"kernel_name"}`` of the entry that has this image.

        404 where there is no such kernel of ours; 400 where there is no such preset.
        """
        body: Any = self.get_json_body()
        if not isinstance(body, dict):
            raise web.HTTPError(400, "The call takes a JSON object.")
        preset = named(str(body.get("preset")))
        if preset is None:
            raise web.HTTPError(400, "There is no such preset.")
        try:
            spec = self.kernel_spec_manager.get_kernel_spec(str(body.get("kernel_name")))
        except NoSuchKernel as error:
            raise web.HTTPError(404, "There is no such kernel.") from error
        if spec.metadata.get("kernel_provisioner", {}).get("provisioner_name") != PROVISIONER:
            raise web.HTTPError(404, "This kernel runs in no container.")
        try:
            name = await asyncio.to_thread(
                install, Path(spec.resource_dir), str(body["kernel_name"]), preset, self.kernel_spec_manager
            )
        except OSError as error:
            raise web.HTTPError(500, f"The kernel could not be written: {error}.") from error
        self.finish({"kernel_name": name})


def install(folder: Path, kernel_name: str, preset: Preset, manager: KernelSpecManager) -> str:
    """Copy a launcher entry with another image, for this user; return its name. Blocks."""
    base, *_ = kernel_name.split("-with-")
    name = f"{base}-with-{preset.name}"
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made, name)
        shutil.copytree(folder, copy)
        spec = json.loads((copy / "kernel.json").read_text(encoding="utf-8"))
        (copy / "kernel.json").write_text(json.dumps(with_preset(spec, preset), indent=1) + "\n", encoding="utf-8")
        manager.install_kernel_spec(str(copy), kernel_name=name, user=True)
    return name


def with_preset(spec: dict[str, Any], preset: Preset) -> dict[str, Any]:
    """Return a kernel.json with another image, and a name that says so. Pure."""
    shown, *_ = spec["display_name"].split(", image ")
    stanza = spec["metadata"]["kernel_provisioner"]
    stanza = {**stanza, "config": {**stanza.get("config", {}), "image": preset.name}}
    return {
        **spec,
        "display_name": f"{shown}, image {preset.name}",
        "metadata": {**spec["metadata"], "kernel_provisioner": stanza},
    }


async def _hardware(sample: nvml.Sample | None) -> Hardware:
    """Return the machine as images see it; what the engine doesn't tell stays unknown."""
    try:
        engine = find.engine()
        info = await engine.info()
    except TfgpuError:
        return Hardware.of(sample)
    return Hardware.of(sample, info.architecture, free_bytes(engine, info))


ROUTES: Final = ((r"/tfgpu/preset", PresetHandler),)

"""Who is compared: kernels on the host, those of others, and ours, each as a kernelspec of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LOCAL: Final = "local"
GATEWAY: Final = "gateway_provisioners"
COLD: Final = "tfgpu cold"
WARM: Final = "tfgpu warm"
OURS: Final = "tfgpu"
"""Once it runs, it doesn't matter how a kernel was started."""
FLOOR: Final = "docker run true"

KERNELS: Final = {LOCAL: "bench-local", GATEWAY: "bench-gateway", COLD: "bench-cold", WARM: "bench-warm"}
"""Names of the kernelspecs."""


@dataclass(frozen=True)
class Makings:
    """What the contenders' kernels are made from."""

    image: str
    """Has TensorFlow."""
    gateway_image: str
    """The same with ipykernel and gateway_provisioners' launchers; empty to leave that contender out."""
    python: str
    """An interpreter of the host with the same TensorFlow and ipykernel."""


def install(data: Path, makings: Makings) -> None:
    """Write the kernelspecs into a data folder of Jupyter's."""
    ipykernel = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
    _write(data, LOCAL, [makings.python, *ipykernel], {})
    for name, ready in ((COLD, 0), (WARM, 1)):
        config = {"image": makings.image, "gpus": "none", "pull": "never", "pool_size": ready}
        provisioner = {"provisioner_name": "tfgpu-docker-provisioner", "config": config}
        _write(data, name, ["python", *ipykernel], {"kernel_provisioner": provisioner})
    if makings.gateway_image:
        from .gateway import argv, env

        config = {"image_name": makings.gateway_image}
        provisioner = {"provisioner_name": "docker-provisioner", "config": config}
        _write(data, GATEWAY, argv(), {"kernel_provisioner": provisioner}, env())


def _write(
    data: Path, contender: str, argv: list[str], metadata: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> None:
    folder = data / "kernels" / KERNELS[contender]
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": contender, "language": "python", "metadata": metadata, "env": dict(env or {})}
    (folder / "kernel.json").write_text(json.dumps(spec))


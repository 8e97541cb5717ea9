"""How a container is asked for with GPUs: pure, from what was granted and what the engine offers.

There are three ways, and a container must use one of them alone. NVIDIA's runtime reads which GPUs to lend from the
container's environment; CDI names devices of a specification that the engine reads; a device request is what
``docker run --gpus`` makes, for a hook that the engine must find on its PATH. Images set
NVIDIA_VISIBLE_DEVICES to ``all`` on their own, so it is always said explicitly: exact UUIDs, or ``void`` where the
runtime must do nothing (``none`` lent all GPUs before NVIDIA's toolkit 1.18.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

RUNTIME: Final = "nvidia"
"""The name that NVIDIA's toolkit registers its runtime under."""
CAPABILITIES: Final = "compute,utility"
"""CUDA, and nvidia-smi with NVML; no graphics, video or display."""
CDI_KIND: Final = "nvidia.com/gpu"
CDI_ALL: Final = f"{CDI_KIND}=all"
"""All of the machine's GPUs: the only device that NVIDIA's generator writes for WSL2."""
VISIBLE: Final = "NVIDIA_VISIBLE_DEVICES"
CUDA_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

Way = Literal["runtime", "cdi", "device-request"]


@dataclass(frozen=True)
class GpuRequest:
    """What a container's configuration and environment must say for its GPUs."""

    uuids: tuple[str, ...] = ()
    host_config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


NO_GPU: Final = GpuRequest(env={VISIBLE: "void"})


def request(uuids: Sequence[str], way: Way = "runtime", cdi_names: Sequence[str] = ()) -> GpuRequest:
    """Ask for exactly these GPUs, or for none.

    :param cdi_names: the GPUs' qualified names in the engine's CDI specification, for that way.
    """
    if not uuids:
        return NO_GPU
    exact = {VISIBLE: ",".join(uuids), "NVIDIA_DRIVER_CAPABILITIES": CAPABILITIES}
    if way == "cdi":
        device: dict[str, Any] = {"Driver": "cdi", "DeviceIDs": list(dict.fromkeys(cdi_names))}
        # The runtime may be the engine's default, and must not lend a second time.
        env = {VISIBLE: "void"}
        if CDI_ALL in cdi_names:
            env[CUDA_VISIBLE] = ",".join(uuids)
        return GpuRequest(tuple(uuids), {"DeviceRequests": [device]}, env)
    if way == "device-request":
        device = {"DeviceIDs": list(uuids), "Capabilities": [["gpu"]]}
        return GpuRequest(tuple(uuids), {"DeviceRequests": [device]}, exact)
    return GpuRequest(tuple(uuids), {"Runtime": RUNTIME}, exact)


def cdi_name(uuid: str, place: str, known: Sequence[str]) -> str | None:
    """Return a GPU's qualified name among those that the engine knows, or None where it isn't there.

    Specifications name devices by UUID, by place, or by both, as they were made; where they name none, but all
    together (WSL2), that is the name, and CUDA is told which.
    """
    if {name for name in known if name.startswith(f"{CDI_KIND}=")} == {CDI_ALL}:
        return CDI_ALL
    candidates = (f"{CDI_KIND}={uuid}", f"{CDI_KIND}={place}")
    return next((name for name in candidates if name in known), None)

"""How a container is asked for with GPUs: pure, from what was granted and what the engine offers.

NVIDIA's runtime reads which GPUs to lend from the container's environment. Images set that to ``all`` on
their own, so it is always said explicitly: exact UUIDs, or ``void`` for none (``none`` lent all GPUs
before NVIDIA's toolkit 1.18.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

RUNTIME: Final = "nvidia"
"""The name that NVIDIA's toolkit registers its runtime under."""
CAPABILITIES: Final = "compute,utility"
"""CUDA, and nvidia-smi with NVML; no graphics, video or display."""


@dataclass(frozen=True)
class GpuRequest:
    """What a container's configuration and environment must say for its GPUs."""

    uuids: tuple[str, ...] = ()
    host_config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def request(uuids: Sequence[str]) -> GpuRequest:
    """Ask for exactly these GPUs through the nvidia runtime, or for none."""
    if not uuids:
        return GpuRequest(env={"NVIDIA_VISIBLE_DEVICES": "void"})
    return GpuRequest(
        tuple(uuids),
        {"Runtime": RUNTIME},
        {
            "NVIDIA_VISIBLE_DEVICES": ",".join(uuids),
            "NVIDIA_DRIVER_CAPABILITIES": CAPABILITIES,
        },
    )

"""Kernelspecs with the settings of one call laid over kernel.json's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

PROVISIONER: Final = "tfgpu-docker-provisioner"


class OverlaidSpecs(KernelSpecManager):
    """Where a notebook's client looks for kernelspecs during one call; ``env`` is merged, the rest replaced."""

    settings: Mapping[str, Any] = {}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernelspec with the settings of this call."""
        spec = super().get_kernel_spec(kernel_name)
        stanza = spec.metadata.get("kernel_provisioner", {})
        if stanza.get("provisioner_name") == PROVISIONER:
            config = stanza.get("config", {})
            merged = {**config, **self.settings}
            if "env" in self.settings:
                merged["env"] = {**config.get("env", {}), **self.settings["env"]}
            stanza["config"] = merged
        return spec

"""Jupyter kernels that run in a TensorFlow container on the host's GPU.

The functions here are what Jupyter asks a package for, to find its extensions.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Tell where the built lab extension is, and under which name Lab knows it."""
    return [{"src": "labextension", "dest": "@tfgpu/labextension"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Tell which server extension to load."""
    from .server.app import TfgpuApp  # kernels without a server need none of it

    return [{"module": "tfgpu_kernel.server.app", "app": TfgpuApp}]

"""What the tests of faults run on: the engine and images of the live tests, and servers that can be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import (
    engine,
    install,
    kernels,
    nothing_left,
    pytest_pyfunc_call,
    slim,
    tensorflow,
    workspace,
)

from .serving import Server

__all__ = [
    "engine",
    "install",
    "kernels",
    "nothing_left",
    "pytest_pyfunc_call",
    "slim",
    "tensorflow",
    "workspace",
]


@pytest.fixture
def server(kernels: Path, workspace: Path, nothing_left: None) -> Iterator[Server]:
    """Start a Jupyter server on the workspace; what is left of its kernels is removed at the end."""
    server = Server(workspace)
    server.start()
    yield server
    server.end()

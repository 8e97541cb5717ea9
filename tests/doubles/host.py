"""A host that has the doubled driver: its state, and processes that see it.

nvidia-ml-py loads the library once in a process and caches its functions, so code that asks NVML runs in a
process of its own, whose loader finds the double first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .build import build
from .state import State

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Host:
    """A folder with the driver's libraries and state."""

    state_file: Path
    libraries: Path

    @classmethod
    def make(cls, folder: Path, state: State, leave_out: Collection[str] = ()) -> Host:
        """Install the driver into an empty folder; ``leave_out`` as in :func:`tests.doubles.build.build`."""
        folder.mkdir(parents=True, exist_ok=True)
        host = cls(folder / "state", build(leave_out))
        host.set(state)
        return host

    def set(self, state: State) -> None:
        """Change the machine, also under processes that run."""
        state.write(self.state_file)

    @property
    def env(self) -> dict[str, str]:
        """Return what a process's environment must hold to see this driver."""
        return {"NVIDIA_DOUBLE_STATE": str(self.state_file), "LD_LIBRARY_PATH": str(self.libraries)}

    def smi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run this host's nvidia-smi."""
        return subprocess.run(
            [str(self.libraries / "nvidia-smi"), *arguments],
            env=os.environ | self.env,
            check=False,
            capture_output=True,
            text=True,
        )

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code in a process that sees this driver; return what it printed.

        :raises AssertionError: with the process's standard error when it fails.
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            env=os.environ | self.env,
            cwd=_ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

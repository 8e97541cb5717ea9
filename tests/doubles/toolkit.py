"""A machine with the doubled driver and NVIDIA's doubled container toolkit, in a folder.

``driver/state`` is what the machine shows, ``lib/`` the driver's files, ``bin/`` the runtime to register with a
daemon and the commands that people have on their PATH, ``grants.jsonl`` which container got which GPU.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .build import MULTIARCH, build
from .state import State

_RUNTIME: Final = """\
#!/bin/sh
# Only a create is edited; every other call of the daemon goes straight to runc.
for argument; do
    [ "$argument" = create ] && exec {python} -I -S {program} {machine} "$@"
done
exec runc "$@"
"""
_CTK: Final = """\
#!/bin/sh
version=$(sed -n 's/^toolkit //p' {machine}/driver/state)
case "$*" in
*version*) printf 'NVIDIA Container Toolkit CLI version %s\\ncommit: 0000000\\n' "$version" ;;
*) echo "this double answers --version only" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Toolkit:
    """The machine's folder."""

    folder: Path

    @classmethod
    def install(cls, folder: Path, state: State) -> Toolkit:
        """Install driver and toolkit into a folder that exists."""
        for name in ("driver", "bin"):
            (folder / name).mkdir()
        (folder / "lib").symlink_to(build())
        (folder / "multiarch").write_text(MULTIARCH)
        toolkit = cls(folder)
        toolkit.set(state)
        program = Path(__file__).with_name("runtime.py")
        values = {"python": sys.executable, "program": program, "machine": folder}
        for name, text in (("nvidia-container-runtime", _RUNTIME), ("nvidia-ctk", _CTK)):
            script = folder / "bin" / name
            script.write_text(text.format(**values))
            script.chmod(0o755)
        (folder / "bin/nvidia-smi").symlink_to("../lib/nvidia-smi")
        return toolkit

    @property
    def runtime(self) -> Path:
        """Return the program to register as the runtime ``nvidia``."""
        return self.folder / "bin/nvidia-container-runtime"

    @property
    def env(self) -> dict[str, str]:
        """Return what a process's environment must hold to see this driver on the host."""
        return {
            "NVIDIA_DOUBLE_STATE": str(self.folder / "driver/state"),
            "LD_LIBRARY_PATH": str(self.folder / "lib"),
        }

    def set(self, state: State) -> None:
        """Change the machine, also under processes and containers that run."""
        state.write(self.folder / "driver/state")

    def granted(self, container: str) -> list[str] | None:
        """Return the UUIDs a container was given, or None where it never came through this runtime."""
        log = self.folder / "grants.jsonl"
        for line in reversed(log.read_text().splitlines() if log.exists() else []):
            entry = json.loads(line)
            if entry["container"] == container:
                return [str(uuid) for uuid in entry["granted"]]
        return None

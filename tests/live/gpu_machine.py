"""Machines with doubled GPUs: an engine of their own, and processes that see the doubled driver.

nvidia-ml-py loads the driver's library once in a process, so whatever launches kernels here runs in a process of its
own (:meth:`Machine.python`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import cdi
from tests.doubles import engine as own_engine
from tests.doubles.engine import TINY, Daemon
from tests.doubles.state import State, machine
from tests.doubles.toolkit import Toolkit
from tests.engines import fetch
from tests.images import recipes

ROOT = Path(__file__).parents[2]
SLIM = recipes.reference("slim")

needs_own_engine = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None, reason="an engine of one's own needs root and dockerd"
)


@dataclass(frozen=True)
class Machine:
    """A machine with GPUs, and its engine."""

    toolkit: Toolkit
    daemon: Daemon
    folder: Path
    """For kernelspecs, run folders and workspaces."""
    cdi_folder: Path | None = None

    def set(self, state: State) -> None:
        """Change the machine; the CDI specification is made anew."""
        self.toolkit.set(state)
        if self.cdi_folder is not None:
            cdi.write(self.toolkit, self.cdi_folder)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of a user's shell on this machine."""
        return {
            **os.environ,
            **self.toolkit.env,
            "DOCKER_HOST": self.daemon.host,
            "JUPYTER_PATH": str(self.folder / "prefix/share/jupyter"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "rt"),
            "PATH": f"{self.toolkit.folder}/bin:{os.environ['PATH']}",
        }

    def install(self, name: str, *settings: str) -> None:
        """Make a kernelspec; its containers have no network, as this engine has none."""
        command = ["-m", "tfgpu_kernel.cli", "install", "--name", name, "--prefix", str(self.folder / "prefix")]
        chosen = ["--image", SLIM, "--network", "none", "--pull", "never", *settings]
        self.run([sys.executable, *command, *chosen])

    def run(self, command: list[str], check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine."""
        done = subprocess.run(
            command, env=self.env | env, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def python(self, code: str, *arguments: str, **env: str) -> Any:
        """Run Python code on this machine; return the JSON that is its last line."""
        output = self.run([sys.executable, "-c", code, *arguments], **env).stdout
        return json.loads(output.splitlines()[-1])

    def kernels(self) -> list[str]:
        """Return the ids of the kernels' containers."""
        return self.daemon.docker("ps", "-aq", "--no-trunc", "--filter", "label=io.tfgpu.kind=kernel").stdout.split()

    def clear(self) -> None:
        """Remove all containers, as a test's end."""
        containers = self.daemon.docker("ps", "--all", "--quiet").stdout.split()
        if containers:
            self.daemon.docker("rm", "--force", *containers)
        shutil.rmtree(self.folder / "rt", ignore_errors=True)


@contextmanager
def running(
    folder: Path,
    *,
    slim: bool = True,
    runtime: bool = True,
    suite: str = "",
    settings: Mapping[str, object] | None = None,
) -> Iterator[Machine]:
    """Start a machine whose engine has the tiny image, and where wanted the slim one with ipykernel.

    :param runtime: whether NVIDIA's runtime is registered.
    :param suite: as :func:`tests.doubles.engine.running` has it; such an engine knows CDI.
    """
    (folder / "nvidia").mkdir()
    toolkit = Toolkit.install(folder / "nvidia", machine(2))
    chosen = dict(settings or {})
    cdi_folder = None
    if suite:
        cdi_folder = folder / "cdi"
        cdi_folder.mkdir()
        chosen |= {"features": {"cdi": True}, "cdi-spec-dirs": [str(cdi_folder)]}
    runtimes = {"nvidia": toolkit.runtime} if runtime else {}
    try:
        with own_engine.running(runtimes, settings=chosen, suite=suite) as daemon:
            imported = daemon.docker("import", "-", TINY, stdin=own_engine.tiny_root())
            assert imported.returncode == 0, imported.stdout
            if slim:
                carry(daemon)
            made = Machine(toolkit, daemon, folder, cdi_folder)
            made.set(machine(2))
            yield made
    except fetch.Unavailable as error:
        pytest.skip(str(error))


def carry(daemon: Daemon, image: str = "") -> None:
    """Bring an image, the slim one where none is named, from the tests' usual engine."""
    if not image:
        image = recipes.ensure("slim")
    saving = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    subprocess.run(
        ["docker", "load", "--quiet"], stdin=saving.stdout, check=True, capture_output=True,
        env=os.environ | {"DOCKER_HOST": daemon.host},
    )  # fmt: skip
    assert saving.wait() == 0

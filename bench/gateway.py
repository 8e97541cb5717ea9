"""The competitor: gateway_provisioners' DockerProvisioner, set up as its documentation asks.

It starts a container by a launcher of its own on the host, and waits for what runs in the container to report its
ports to an address that the container can reach. Its settings are read from the environment when it is imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

_IMAGE: Final = "tfgpu-bench/gateway"
_HOME: Final = "/usr/local/bin"
"""Where its images keep the launchers."""


def settle() -> None:
    """Set what it reads from the environment; call before any of its kernels is started."""
    asked = ["docker", "network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]
    bridge = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    os.environ |= {
        "GP_DOCKER_MODE": "docker",
        "GP_DOCKER_NETWORK": "bridge",
        "GP_RESPONSE_IP": bridge,
        "KERNEL_USERNAME": "bench",
        "KERNEL_LAUNCH_TIMEOUT": "120",
    }


def argv() -> list[str]:
    """Return its kernelspec's command, as ``jupyter docker-spec install`` writes it."""
    launcher = str(_launchers() / "docker/scripts/launch_docker.py")
    options = ("kernel-id", "port-range", "response-address", "public-key", "transport-encryption")
    named = [part for option in options for part in (f"--{option}", "{" + option.replace("-", "_") + "}")]
    return ["python", launcher, *named, "--kernel-class-name", "ipykernel.ipkernel.IPythonKernel"]


def env() -> dict[str, str]:
    """Return its kernelspec's environment: it hands the host's on, whose folders the container hasn't."""
    return {"HOME": "/tmp", "TMPDIR": "/tmp", "JUPYTER_RUNTIME_DIR": "/tmp/jupyter"}


def image(base: str) -> str:
    """Make an image with its launchers from one that has ipykernel; return its name."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        scripts = folder / "kernel-launchers/python/scripts"
        shutil.copytree(_launchers() / "python/scripts", scripts)
        shutil.copy(_launchers() / "shared/scripts/server_listener.py", scripts)
        script = Template((_launchers() / "bootstrap/bootstrap-kernel.sh").read_text())
        (folder / "bootstrap-kernel.sh").write_text(script.safe_substitute(install_dir=_HOME))
        # What its launcher imports beside ipykernel; beside it, so that the image needs no package index.
        wheel = ["install", "--quiet", "--target", str(scripts), "--no-deps", "pycryptodomex"]
        subprocess.run([sys.executable, "-m", "pip", *wheel], check=True)
        (folder / "Dockerfile").write_text(
            f"FROM {base}\n"
            f"COPY kernel-launchers {_HOME}/kernel-launchers\n"
            f"COPY bootstrap-kernel.sh {_HOME}/\n"
            f'RUN chmod -R a+rX,a+x {_HOME}/bootstrap-kernel.sh {_HOME}/kernel-launchers && '
            f'{{ command -v python || ln -s "$(command -v python3)" {_HOME}/python; }}\n'
            f'CMD ["{_HOME}/bootstrap-kernel.sh"]\n'
        )
        build = ["docker", "build", "--quiet", "--network", "none", "--tag", _IMAGE, made]
        subprocess.run(build, check=True, capture_output=True, env=os.environ | {"DOCKER_BUILDKIT": "0"})
    return _IMAGE


def _launchers() -> Path:
    return Path(str(files("gateway_provisioners"))) / "kernel-launchers"

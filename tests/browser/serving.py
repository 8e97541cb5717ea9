"""A JupyterLab of a test's own: a process of its own, and nothing of the developer's settings in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests

from tfgpu_kernel.runfolder import cache_folder

_REPOSITORY: Final = Path(__file__).parents[2]
_LAB_EXTENSION: Final = _REPOSITORY / "tfgpu_kernel/labextension"
START_SECONDS: Final = 90.0


@dataclass
class Server:
    """A JupyterLab that runs; ``root`` is the folder whose files it shows."""

    folder: Path
    url: str
    token: str
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def root(self) -> Path:
        """The folder of notebooks."""
        return self.folder / "work"

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self.folder / "server.log"

    @property
    def runtime(self) -> Path:
        """Jupyter's runtime folder, in which the run folders are."""
        return self.folder / "runtime"

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Call the server's REST API as its user, past any browser."""
        return requests.request(
            method, f"{self.url}{path}", headers={"Authorization": f"token {self.token}"}, timeout=60, **more
        )

    def kernelspec(self, name: str, display_name: str, logos: str = "tfgpu", **settings: object) -> None:
        """Make a launcher entry, or change one: its settings are those of the provisioner.

        No kernel waits beside it unless a test says so: it would count as left behind.
        """
        folder = self.folder / "data/kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        provisioner = {"provisioner_name": "tfgpu-docker-provisioner", "config": {"pool_size": 0, **settings}}
        spec = {
            "argv": ["tfgpu"],
            "display_name": display_name,
            "language": "python",
            "interrupt_mode": "signal",
            "metadata": {"kernel_provisioner": provisioner},
        }
        (folder / "kernel.json").write_text(json.dumps(spec))
        for logo in (_REPOSITORY / "kernelspecs" / logos).glob("logo-*"):
            shutil.copy(logo, folder)

    def notebook(self, path: str, *cells: str, kernel: str = "tfgpu", minor: int = 5) -> Path:
        """Write a notebook of code cells; they have ids from nbformat 4.5 on."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({
            "cells": [
                {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source,
                 **({"id": f"cell-{number}"} if minor >= 5 else {})}
                for number, source in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": minor,
        }))  # fmt: skip
        return file

    def end_kernels(self) -> None:
        """Cancel every launch and shut every kernel and terminal down."""
        for launch in self.ask("GET", "tfgpu/launches").json()["launches"]:
            if launch["ended"] is None:
                self.ask("DELETE", f"tfgpu/launches/{launch['kernel_id']}")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(
            launch["ended"] is None for launch in self.ask("GET", "tfgpu/launches").json()["launches"]
        ):
            time.sleep(0.1)
        for session in self.ask("GET", "api/sessions").json():
            self.ask("DELETE", f"api/sessions/{session['id']}")
        for kernel in self.ask("GET", "api/kernels").json():
            self.ask("DELETE", f"api/kernels/{kernel['id']}")
        for terminal in self.ask("GET", "api/terminals").json():
            self.ask("DELETE", f"api/terminals/{terminal['name']}")

    def containers(self) -> list[str]:
        """Return the ids of this server's kernels' containers, running or not."""
        listing = subprocess.run(
            ["docker", "ps", "--all", "--filter", "label=io.tfgpu.kind=kernel",
             "--format", '{{.ID}} {{.Label "io.tfgpu.run"}}'],
            check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        return [line.split()[0] for line in listing if line.split()[1].startswith(str(self.folder))]

    def run_folders(self) -> list[Path]:
        """Return the run folders of this server's kernels."""
        root = self.runtime / "tfgpu"
        return list(root.iterdir()) if root.is_dir() else []


@contextlib.contextmanager
def running(
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-m", "jupyterlab"),
    python: str = sys.executable,
) -> Iterator[Server]:
    """Run a JupyterLab in ``folder``, whose path must be short: sockets are in it.

    :param options: further options of the command line, such as ``--TfgpuApp.…``.
    :param env: further environment; ``tests.doubles.host.Host.env`` gives it a doubled driver.
    :param command: what Python runs; ``("-m", "notebook")`` for Notebook 7.
    """
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(folder, f"http://127.0.0.1:{port}/base/", token, None)  # type: ignore[arg-type]
    for name in ("home", "config/labconfig", "data/labextensions/@tfgpu", "runtime", "settings", "workspaces", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if python == sys.executable:
        # What was built last is tested, whatever was installed before; another Python has its own installation.
        (folder / "data/labextensions/@tfgpu/labextension").symlink_to(_LAB_EXTENSION)
    (folder / "config/labconfig/page_config.json").write_text(
        json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}})
    )
    arguments = [
        python,
        *command,
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/base/",  # a server behind a hub has one
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={server.root}",
        f"--LabServerApp.workspaces_dir={folder}/workspaces",
        f"--LabServerApp.user_settings_dir={folder}/settings",
        "--LabApp.extension_manager=readonly",
        "--expose-app-in-browser",
        *options,
    ]
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_PATH": str(folder / "data"),  # before the environment's own, where an older build may be
        "JUPYTER_RUNTIME_DIR": str(server.runtime),
        "JUPYTER_PREFER_ENV_PATH": "0",  # else what is installed in the virtual environment comes first
        "XDG_CACHE_HOME": str(cache_folder().parent),  # MNIST is in it
        **(env or {}),
    }
    with server.log.open("wb") as log:
        server.process = subprocess.Popen(
            arguments, env=environment, cwd=server.root, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        _wait(server)
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(30)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if server.ask("GET", "api/status").ok:
                return
        time.sleep(0.1)
    raise RuntimeError("JupyterLab did not start:\n" + server.log.read_text()[-3000:])

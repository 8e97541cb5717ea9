"""A server run by an ordinary user of the engine's group: what its kernels may, and whose their files are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from jupyter_client.blocking import BlockingKernelClient

from tfgpu_kernel.engine import find

from .conftest import install
from .serving import Server, call, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")

UID: Final = 23456
"""A user that the machine has no entry for, as those of a directory service may be."""


@dataclass(frozen=True)
class Home:
    """An ordinary user's server, started in the user's home folder."""

    folder: Path
    server: Server

    def kernel(self, path: str) -> tuple[str, BlockingKernelClient]:
        """Start a notebook's kernel as Lab does; return its id and a client."""
        session = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "tfgpu"}}
        made = call(self.server, "POST", "/api/sessions", session)
        assert "kernel" in made, made
        kernel_id = made["kernel"]["id"]
        client = BlockingKernelClient()
        client.load_connection_file(str(self.folder / f".local/share/jupyter/runtime/kernel-{kernel_id}.json"))
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return kernel_id, client


def run(client: BlockingKernelClient, code: str) -> str:
    """Run a cell; return what it printed, and the name of its error."""
    told: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        told.append(message["content"].get("text") or message["content"].get("ename") or "")

    client.execute_interactive(code, output_hook=hear, timeout=60)
    return "".join(told)


@pytest.fixture
def home(slim: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Run a server as the user, with the canary in its environment; its home is what it serves."""
    folder = Path(tempfile.mkdtemp(prefix="tfu-"))
    install(folder / ".local", "tfgpu", "--image", slim, "--gpus", "none")
    (folder / ".ssh").mkdir()
    (folder / ".ssh/id_rsa").write_text("secret")
    (folder / ".bashrc").write_text("secret")
    (folder / "project").mkdir()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)
    for name in [name for name in os.environ if name.startswith(("JUPYTER", "XDG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("TFGPU_TEST_CANARY", "sings")
    socket = find.find(os.environ).partition("://")[2]
    become = (
        "setpriv", f"--reuid={UID}", f"--regid={UID}", f"--groups={os.stat(socket).st_gid}",
        # Only to read this clone, which may lie in a folder of root's.
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
    )  # fmt: skip
    (folder / "served").mkdir()
    try:
        with serving(folder, prefix=become, log=folder / "served/log") as server:
            yield Home(folder, server)
        assert not list(folder.glob(".local/share/jupyter/runtime/tfgpu/*"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_kernel_of_an_ordinary_user(home: Home) -> None:
    """Its container is the user's, closed on all sides, and has nothing of the server's environment or dot-entries."""
    kernel_id, client = home.kernel("project/a.ipynb")
    try:
        listing = ["docker", "ps", "--quiet", "--filter", f"label=io.tfgpu.uid={UID}"]
        (container,) = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
        text = subprocess.run(["docker", "inspect", container], check=True, capture_output=True, text=True).stdout
        status = run(client, "print(open('/proc/self/status').read())")
        environment = run(client, "import os; print(dict(os.environ))")
        who = run(client, "import getpass; print(os.getuid(), os.getgid(), getpass.getuser(), os.getcwd())")
        hidden = run(client, f"print(os.listdir('{home.folder}/.ssh'), open('{home.folder}/.bashrc').read())")
        groups = run(client, "print(os.getgroups())")
        run(client, "open('made', 'w').close(); os.mkdir('folder'); open('../above', 'w').close()")
        key = client.session.key.decode()
    finally:
        client.stop_channels()
        call(home.server, "DELETE", f"/api/kernels/{kernel_id}")

    (record,) = json.loads(text)
    host = record["HostConfig"]
    assert record["Config"]["User"] == f"{UID}:{UID}"
    assert not host["PortBindings"]
    assert not record["NetworkSettings"]["Ports"]
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert "no-new-privileges" in host["SecurityOpt"]
    assert (host["Init"], host["Privileged"], host["PidsLimit"]) == (True, False, 4096)
    binds = {m["Destination"]: m["RW"] for m in record["Mounts"] if m["Type"] == "bind"}
    lent = {target for target in binds if target.startswith("/tfgpu/site/")}  # pip's settings and certificates
    assert not any(binds.pop(target) for target in lent)
    ours = {"/tfgpu/run": True, "/tfgpu/cache": True, "/tfgpu/packages": True}
    assert binds == {str(home.folder): True, **ours, f"{home.folder}/.bashrc": False}
    covers = {mount["Target"] for mount in host["Mounts"] if mount["Type"] == "tmpfs"}
    assert {f"{home.folder}/.ssh", f"{home.folder}/.local"} <= covers
    assert covers == {str(path) for path in home.folder.glob(".*") if path.is_dir()}
    for word in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert word in status
    assert "sings" not in environment
    assert "sings" not in text
    assert key not in text
    assert who == f"{UID} {UID} user{UID} {home.folder}/project\n"
    assert hidden == "[] \n"
    assert groups in ("[]\n", f"[{UID}]\n")  # not the engine's group
    for made in ("project/made", "project/folder", "above"):
        status_of = (home.folder / made).stat()
        assert (status_of.st_uid, status_of.st_gid) == (UID, UID)
    assert container not in subprocess.run(listing, check=True, capture_output=True, text=True).stdout

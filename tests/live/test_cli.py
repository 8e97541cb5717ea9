"""``jupyter tfgpu`` on real kernels: ps, logs, exec, stop, and what it says when it can't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfgpu_kernel import quiet

from .driving import kernel
from .serving import call, serving
from .test_pool import container_of, keeping, one_ready


def tfgpu(*arguments: str, code: int = 0, **env: str) -> str:
    """Run the command; return what it printed, which is never a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def test_a_kernel_is_shown_and_entered(kernels: Path, workspace: Path) -> None:
    """``ps``, ``logs`` and ``exec`` find a kernel by the beginning of its id; each that reads has ``--json``."""
    async with kernel(workspace, env=os.environ | {"JPY_SESSION_NAME": f"{workspace}/a.ipynb"}) as driven:
        kernel_id = driven.manager.kernel_id
        await driven.run("import os; os.write(2, b'beside the cells\\n')")
        (shown,) = [row for row in json.loads(tfgpu("ps", "--json")) if row["kernel_id"] == kernel_id]
        assert (shown["notebook"], shown["state"], shown["owned"]) == (f"{workspace}/a.ipynb", "running", True)
        assert kernel_id[:12] in tfgpu("ps")
        assert json.loads(tfgpu("logs", kernel_id[:8], "--json"))["kernel_id"] == kernel_id
        assert "uid=" in tfgpu("exec", kernel_id[:8], "id")
        assert "gone wrong" in tfgpu("exec", kernel_id[:8], "sh", "-c", "echo gone wrong >&2; exit 7", code=7)


async def test_a_kernel_that_waits_is_marked(kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ps`` says of a kernel that waits to be taken that it is ready, what it weighs, and that it holds no GPU."""
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)
    async with keeping() as kept, kernel(workspace) as driven:
        ready = await one_ready(kept)
        shown = {row["container"]: row for row in json.loads(tfgpu("ps", "--json"))}
        waits, runs = shown[ready.container], shown[container_of(driven)]
        assert (waits["ready"], waits["memory_bytes"], waits["gpus"]) == (True, ready.memory_bytes, [])
        assert ready.memory_bytes > 10 * 2**20
        assert (runs["ready"], runs["memory_bytes"]) == (False, None)
        assert f"ready ({ready.memory_bytes / 2**20:.0f} MB)" in tfgpu("ps")


def test_stop_ends_a_servers_kernel_for_good(kernels: Path, workspace: Path) -> None:
    """A server's kernel is ended through its server, which would otherwise start it anew; or it is left alone."""
    with serving(workspace) as server:
        kernel_id = call(server, "POST", "/api/kernels", {"name": "tfgpu"})["id"]
        running = {row["kernel_id"]: row["container"] for row in json.loads(tfgpu("ps", "--json"))}
        (listed,) = Path(os.environ["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json")
        before = listed.read_text()
        # As a server with a password has it: nothing by which another program could ask.
        listed.write_text(json.dumps({**json.loads(before), "token": "", "password": True}))
        said = tfgpu("stop", kernel_id[:8], code=1)
        assert "it has a password and no token" in said
        assert "shut it down in JupyterLab" in said
        assert "--IdentityProvider.token" in tfgpu("adopt", kernel_id[:8], code=1)
        (row,) = [row for row in json.loads(tfgpu("ps", "--json")) if row["kernel_id"] == kernel_id]
        assert row["container"] == running[kernel_id], "it goes on, in the container that it had"
        listed.write_text(before)
        # No proxy is asked for a server of this machine, whatever the environment says of proxies.
        assert f"Stopped {kernel_id}" in tfgpu("stop", kernel_id[:8], http_proxy="http://127.0.0.1:9", no_proxy="")
        assert call(server, "GET", "/api/kernels") == []


def test_what_can_not_be_done_is_said(kernels: Path, tmp_path: Path) -> None:
    """Wrong names and places are told with what to do, and exit code 1."""
    assert "jupyter tfgpu ps" in tfgpu("logs", "nothing", code=1)
    assert "can't name a kernel" in tfgpu("install", "--name", "my kernel", "--prefix", str(tmp_path), code=1)
    assert "--user" in tfgpu("install", "--name", "mine", "--prefix", "/proc/nowhere", code=1)
    assert 'Allowed: 0, 1' in tfgpu("install", "--name", "mine", "--prefix", str(tmp_path), "--gpus", "lots", code=1)

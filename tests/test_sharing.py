"""The REST calls for shared notebooks: bounded to the server's folder, and no consent for what was not read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado import web
from tornado.httpclient import HTTPClientError

from tfgpu_kernel.lock import consent, read
from tfgpu_kernel.server import jobs
from tfgpu_kernel.server.jobs import Job, Jobs, options

from .test_lock_read import GOOD, notebook

pytest_plugins = ["pytest_jupyter.jupyter_server"]
Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"tfgpu_kernel": True}}}


async def refused(code: int, answer: Awaitable[Any]) -> None:
    """Expect an answer's status."""
    with pytest.raises(HTTPClientError) as error:
        await answer
    assert error.value.code == code


async def test_consent_is_given_for_what_was_read(
    jp_fetch: Fetch, jp_root_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A consent names the lock that was shown: one that changed meanwhile is refused."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    notebook(jp_root_dir / "shared.ipynb", GOOD)
    lock = read.check(GOOD).lock

    def agree(subject: str) -> Awaitable[Any]:
        body = json.dumps({"path": "shared.ipynb", "subject": subject})
        return jp_fetch("tfgpu", "sharing", "consent", method="POST", body=body)

    await refused(409, agree("0" * 64))
    assert consent.needed(lock)
    await agree(lock.subject())
    assert not consent.needed(lock)


async def test_paths_stay_in_the_servers_folder(jp_fetch: Fetch, jp_root_dir: Path, tmp_path: Path) -> None:
    """Neither dots nor links lead to notebooks elsewhere."""
    notebook(tmp_path / "outside.ipynb", GOOD)
    (jp_root_dir / "link.ipynb").symlink_to(tmp_path / "outside.ipynb")
    for path in ("../outside.ipynb", "link.ipynb", "absent.ipynb", "/etc/passwd", ""):
        await refused(404, jp_fetch("tfgpu", "sharing", "needs", params={"path": path}))
        body = json.dumps({"verb": "lock", "path": path})
        await refused(404, jp_fetch("tfgpu", "sharing", "jobs", method="POST", body=body))


@pytest.mark.parametrize(
    "body",
    [
        {"verb": "exec", "path": "a.ipynb"},
        {"verb": "add", "path": "a.ipynb", "packages": ["--index-url=http://evil"]},
        {"verb": "add", "path": "a.ipynb", "packages": []},
        {"verb": "add", "path": "a.ipynb", "packages": ["x; rm -rf /"]},
        {"verb": "lock", "path": "a.ipynb", "packages": ["seaborn"]},
        [],
    ],
)
async def test_other_jobs_are_refused(jp_fetch: Fetch, jp_root_dir: Path, body: object) -> None:
    """Only the four verbs, and only requirements by name."""
    notebook(jp_root_dir / "a.ipynb", GOOD)
    await refused(400, jp_fetch("tfgpu", "sharing", "jobs", method="POST", body=json.dumps(body)))


async def test_broken_lock_is_explained(jp_fetch: Fetch, jp_root_dir: Path) -> None:
    """What is no lock is told as a failure with a remedy, for the banner to show."""
    notebook(jp_root_dir / "evil.ipynb", {**GOOD, "image": "--privileged"})
    told = json.loads((await jp_fetch("tfgpu", "sharing", "needs", params={"path": "evil.ipynb"})).body)
    assert told["needs"] is None
    assert told["failure"]["code"] == "lock-invalid"


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let jobs run a script in the place of this package's command line."""
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))


async def ended(job: Job) -> Job:
    """Wait for a job's end."""
    assert job.task is not None
    await asyncio.wait_for(job.task, 20)
    return job


async def test_another_job_is_refused_while_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same job is joined; another one on that notebook is refused with the reason, not done by the first."""
    program(tmp_path, monkeypatch, "exec sleep 60")
    running = Jobs()
    file = tmp_path / "a.ipynb"
    first = running.start("add", "a.ipynb", file, ["seaborn"], [])
    assert running.start("add", "a.ipynb", file, ["seaborn"], []) is first
    for verb, packages in (("add", ["jax"]), ("lock", [])):
        with pytest.raises(web.HTTPError, match="Packages are being added to it") as refused:
            running.start(verb, "a.ipynb", file, packages, [])  # type: ignore[arg-type]
        assert refused.value.status_code == 409
    other = running.start("lock", "b.ipynb", tmp_path / "b.ipynb", [], [])
    while not (first.process and other.process):
        await asyncio.sleep(0.01)
    await running.close()
    assert first.state == other.state == "cancelled"
    second = running.start("lock", "a.ipynb", file, [], [])
    assert second is not first
    while not second.process:
        await asyncio.sleep(0.01)
    await running.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_job_that_is_cancelled_while_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """It is interrupted as soon as there is something to interrupt, not killed half a minute later."""
    program(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(jobs, "_CLEARS_UP_SECONDS", 5.0)
    job = Jobs().start("add", "a.ipynb", tmp_path / "a.ipynb", ["seaborn"], [])
    for _ in range(turns):
        await asyncio.sleep(0)
    assert job.process is None
    await jobs.cancel(job)
    assert (job.state, job.code) == ("cancelled", -signal.SIGINT)


def test_a_job_hears_an_interrupt_that_its_server_ignores() -> None:
    """A server that a shell started in the background ignores SIGINT, and goes on to; its jobs end by it."""
    child = "import os, signal, sys; os.kill(os.getpid(), signal.SIGINT); sys.exit(7)"
    server = (
        "import os, signal, subprocess, sys; from tfgpu_kernel.server import jobs\n"
        f"def child(): return subprocess.call([sys.executable, '-c', {child!r}], stderr=subprocess.DEVNULL)\n"
        "before = child(); jobs._let_children_be_interrupted(); os.kill(os.getpid(), signal.SIGINT)\n"
        "print(before, child())"
    )
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", server]
    assert subprocess.run(ignoring, check=True, capture_output=True, text=True).stdout == "7 -2\n"


async def test_a_job_that_breaks_off_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line is read; one without end ends the job and its process, and so does a program that isn't there."""
    running = Jobs()
    program(tmp_path, monkeypatch, "head -c 200000 /dev/zero | tr '\\0' x; echo; echo done")
    job = await ended(running.start("lock", "a.ipynb", tmp_path / "a.ipynb", [], []))
    assert (job.state, [len(line) for line in job.lines]) == ("done", [200000, 4])
    program(tmp_path, monkeypatch, "exec tr '\\0' x < /dev/zero")
    job = await ended(running.start("lock", "a.ipynb", tmp_path / "a.ipynb", [], []))
    assert job.state == "failed"
    assert "It broke off" in job.lines[-1]
    assert job.process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(job.process.pid, 0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    job = await ended(running.start("lock", "a.ipynb", tmp_path / "a.ipynb", [], []))
    assert job.state == "failed"


def test_settings_become_options() -> None:
    """The server's settings reach the command line, each as one word; a list of GPUs, too."""
    settings = {"image": "a b", "gpu_required": False, "env": {"A": "1 2"}, "packages": ["x"], "shm_size": "4g"}
    settings["gpus"] = ["0", "2"]
    assert options(settings, without=["packages"]) == [
        "--image=a b", "--no-gpu-required", "--env=A=1 2", "--shm-size=4g", "--gpus=device=0,2",
    ]  # fmt: skip

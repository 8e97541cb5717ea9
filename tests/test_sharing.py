"""The REST calls for shared notebooks: bounded to the server's folder, and no consent for what was not read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tfgpu_kernel.lock import consent, read
from tfgpu_kernel.server.jobs import options

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


def test_settings_become_options() -> None:
    """The server's settings reach the command line, each as one word."""
    settings = {"image": "a b", "gpu_required": False, "env": {"A": "1 2"}, "packages": ["x"], "shm_size": "4g"}
    assert options(settings, without=["packages"]) == [
        "--image=a b", "--no-gpu-required", "--env=A=1 2", "--shm-size=4g",
    ]  # fmt: skip

"""The lifecycle tests on one engine after another: ``python -m tests.engines.matrix [NAME …] [-- PYTEST'S OPTION …]``.

Docker of three releases of Debian, and a rootless podman through its Docker-compatible socket, as an ordinary user.
Each engine is one of the tests' own; its containers have no network beyond themselves. What comes out is a table, in
Markdown, and an exit code that isn't 0 where a test failed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.doubles.engine import running
from tests.images import recipes

from .fetch import Unavailable

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = (
    "tests/live/test_lifecycle.py",
    "tests/faults/test_adoption.py::test_a_killed_servers_kernels_go_on_with_the_next",
)
DOCKERS: Final = {"installed": "", "trixie": "trixie", "sid": "sid"}
PODMAN: Final = "podman"
USER: Final = "tfgpu-rootless"
_ENGINE_SECONDS: Final = 30
_TRAINING: Final = "interrupt_of_a_training"
"""Needs gigabytes of TensorFlow, which these engines can't fetch; ``test_interrupt`` asks the same of an engine."""


@dataclass
class Run:
    """What the tests said on one engine."""

    engine: str
    seconds: float = 0.0
    refusal: str = ""
    """Why it could not be run at all."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Test → passed, FAILED, or why it was skipped."""


@dataclass(frozen=True)
class Ready:
    """An engine that answers and has the image."""

    version: str
    prefix: Sequence[str]
    env: dict[str, str]


@contextlib.contextmanager
def docker(suite: str) -> Iterator[Ready]:
    """Start a release's Docker."""
    with running({}, suite=suite) as daemon:
        env = os.environ | {"DOCKER_HOST": daemon.host}
        _load(env)
        yield Ready("Docker " + daemon.docker("version", "--format", "{{.Server.Version}}").stdout.strip(), (), env)


@contextlib.contextmanager
def podman() -> Iterator[Ready]:
    """Start podman's service as an ordinary user, who is made for it and goes with it.

    :raises Unavailable: with what podman said.
    """
    if os.geteuid() != 0 or not shutil.which("podman"):
        raise Unavailable("needs root, to become an ordinary user, and podman")
    subprocess.run(["useradd", "--create-home", USER], check=True, capture_output=True)
    entry = pwd.getpwnam(USER)
    home, runtime = Path(entry.pw_dir), Path(tempfile.mkdtemp(prefix="tfgpu-podman-"))
    settings = home / ".config/containers/storage.conf"
    settings.parent.mkdir(parents=True)
    # Without /dev/fuse podman would copy whole images for each container; the kernel's own overlay does without.
    settings.write_text('[storage]\ndriver = "overlay"\n')
    for path in (runtime, *home.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    base = {"HOME": str(home), "USER": USER, "LOGNAME": USER, "XDG_RUNTIME_DIR": str(runtime), "LANG": "C.UTF-8"}
    env = base | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin"}
    become = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    service = None
    try:
        asked = _as(become, env, "podman", "info")
        if asked.returncode:
            raise Unavailable(asked.stderr.strip()[-300:])
        address = f"unix://{runtime}/podman.sock"
        command = [*become, "podman", "system", "service", "--time=0", address]
        with (runtime / "log").open("wb") as log:
            service = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log)
        deadline = time.monotonic() + _ENGINE_SECONDS
        while not (runtime / "podman.sock").exists():
            if time.monotonic() > deadline or service.poll() is not None:
                raise Unavailable((runtime / "log").read_text()[-300:])
            time.sleep(0.1)
        env |= {"DOCKER_HOST": address, "PYTHONDONTWRITEBYTECODE": "1"}
        _load(env)
        version = _as(become, env, "podman", "version", "--format", "{{.Version}}").stdout.strip()
        # The capability only lets it read this clone, which may lie in a folder of root's.
        reading = [*become, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        yield Ready(f"podman {version}, rootless", reading, env)
    finally:
        _as(become, env, "podman", "rm", "--all", "--force", "--time=0")
        if service is not None:
            service.terminate()
            service.wait(_ENGINE_SECONDS)
        _as(become, env, "podman", "system", "reset", "--force")
        subprocess.run(["userdel", "--remove", USER], check=False, capture_output=True)
        shutil.rmtree(runtime, ignore_errors=True)


def _as(become: Sequence[str], env: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*become, *command], env=env, cwd="/", check=False, capture_output=True, text=True, timeout=120
    )


def _load(env: dict[str, str]) -> None:
    saving = subprocess.Popen(["docker", "save", recipes.ensure("slim")], stdout=subprocess.PIPE)
    subprocess.run(["docker", "load", "--quiet"], stdin=saving.stdout, env=env, check=True, capture_output=True)
    if saving.wait():
        raise RuntimeError("the image could not be saved")


def run(name: str, options: Sequence[str] = ()) -> Run:
    """Run the tests on one engine."""
    began = time.monotonic()
    result = Run(name)
    try:
        with podman() if name == PODMAN else docker(DOCKERS[name]) as ready:
            result.engine = ready.version
            result.outcomes = _tests(ready, options)
    except Unavailable as why:
        result.refusal = str(why)
    result.seconds = time.monotonic() - began
    return result


def _tests(ready: Ready, options: Sequence[str]) -> dict[str, str]:
    folder = Path(tempfile.mkdtemp(prefix="tfgpu-matrix-"))
    folder.chmod(0o777)
    try:
        command = [
            *ready.prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/t",
            f"--junitxml={folder}/report.xml", "--timeout=300", "-k", f"not {_TRAINING}", *TESTS, *options,
        ]  # fmt: skip
        subprocess.run(command, env=ready.env | {"TFGPU_TEST_NETWORK": "none"}, cwd=ROOT, check=False)
        return outcomes((folder / "report.xml").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def outcomes(report: str) -> dict[str, str]:
    """Read pytest's report: test → passed, FAILED, or why it was skipped."""
    found: dict[str, str] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        skipped = case.find("skipped")
        bad = case.find("failure") is not None or case.find("error") is not None
        said = "FAILED" if bad else "passed" if skipped is None else "skipped: " + skipped.get("message", "")
        if found.get(case.get("name", "")) != "FAILED":  # a test and its teardown are two
            found[case.get("name", "")] = said
    return found


def table(runs: Sequence[Run]) -> str:
    """Return the Markdown: a row for each test, a column for each engine."""
    names = list(dict.fromkeys(name for one in runs for name in one.outcomes))
    head = ["Test", *(one.engine for one in runs)]
    rows = [[f"`{name}`", *(one.outcomes.get(name, "not run") for one in runs)] for name in names]
    lines = [head, ["---"] * len(head), *rows, ["seconds", *(f"{one.seconds:.0f}" for one in runs)]]
    told = [f"{one.engine} could not be run: {one.refusal}" for one in runs if one.refusal]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", *told])


def main() -> int:
    """Run on the named engines, or all; return 0 where nothing failed."""
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    names, options = sys.argv[1:split], sys.argv[split + 1 :]
    runs = [run(name, options) for name in names or (*DOCKERS, PODMAN)]
    print(table(runs))
    return int(any("FAILED" in one.outcomes.values() for one in runs))


if __name__ == "__main__":
    sys.exit(main())

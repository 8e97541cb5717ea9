"""Build a TensorFlow image from Debian's (or Ubuntu's) and PyPI's packages alone: no registry is asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from .. import labels, scratch
from ..engine.base import Engine, ImageRecord
from ..errors import ConfigError, ImageBuildFailed, ImageNotFound
from ..owner import Owner
from ..progress import Report, Step
from . import debian, workshop
from .choice import CUDA_ELSEWHERE
from .debian import PYTHONS, Release
from .ensure import remember
from .plan import EXTRAS
from .presets import AMD64, BUILT
from .unbuilt import NEWEST, TENSORFLOW, as_root

VENV: Final = "/opt/tensorflow"
BOUNDS: Final = {
    "ipykernel": "<8",
    "matplotlib": "<4",
    "pandas": "<4",
    "pillow": "<14",
    "ipywidgets": "<9",
    "tqdm": "<5",
}
"""A next major version is taken when it has been tried, not when it appears."""
SYSTEM_PACKAGES: Final = ("python3", "python3-venv", "ca-certificates")


@dataclass(frozen=True)
class Recipe:
    """What an image is to be built from."""

    gpu: bool
    tensorflow: str
    """TensorFlow's version, as far as it is fixed: 2.21 is any 2.21.x."""
    python: str
    release: Release
    constraints: tuple[str, ...] = ()
    """Further bounds on Python packages, for building the same package set again."""
    named_python: bool = False
    """Whether the Python was asked for; the image's name then says which."""
    machine: str = "x86_64"
    """The processor that it is for, which is this machine's."""

    @property
    def tag(self) -> str:
        """The name that the image gets unless another is asked for."""
        python = f"-py{self.python}" if self.named_python else ""
        return f"{BUILT}tensorflow:{self.tensorflow}-{'gpu' if self.gpu else 'cpu'}{python}"

    def requirements(self) -> tuple[str, ...]:
        """Return what pip installs."""
        version = self.tensorflow if self.tensorflow.count(".") > 1 else f"{self.tensorflow}.*"
        # tensorflow-cpu is for amd64 alone; elsewhere there is no CUDA in tensorflow to be left out.
        name = "tensorflow[and-cuda]" if self.gpu else "tensorflow-cpu" if self.machine in AMD64 else "tensorflow"
        extras = (f"{name}{BOUNDS[name]}" for name in ("ipykernel", *EXTRAS))
        return (f"{name}=={version}", *extras)

    def changes(self) -> tuple[str, ...]:
        """Return the settings of the image."""
        variables = {
            "PATH": f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
        }
        if self.gpu:
            variables |= {
                "NVIDIA_VISIBLE_DEVICES": "all",
                "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            }
        return tuple(f"ENV {name}={value}" for name, value in variables.items())

    def key(self) -> str:
        """Return a short hash that differs where the recipe differs."""
        parts = {name: value for name, value in asdict(self).items() if name not in ("named_python", "machine")}
        text = json.dumps([parts, self.requirements(), self.changes(), SYSTEM_PACKAGES])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def recipe(
    *, gpu: bool, tensorflow: str = "", python: str = "", constraints: Sequence[str] = (),
    host: Release | None, machine: str = "",
) -> Recipe:  # fmt: skip
    """Choose what is left open: the host's own release and Python, the newest TensorFlow for that Python.

    :param machine: the processor, unless it is this machine's.
    :raises ImageBuildFailed: where the machine is neither Debian nor Ubuntu, or there is no CUDA for it.
    :raises ConfigError: for a Python that the host's distribution has in no release.
    """
    if host is None:
        raise ImageBuildFailed(
            "Building an image takes a machine with Debian or Ubuntu: it is made from their packages.",
            "build it on such a machine, and carry it over: jupyter tfgpu image save there, jupyter tfgpu "
            "image load here.",
        )
    machine = machine or platform.machine()
    if gpu and machine not in AMD64:
        raise ImageBuildFailed(
            f"PyPI's TensorFlow for {machine} is made without CUDA, so no image for GPUs can be built of it.",
            f"take {CUDA_ELSEWHERE}, or build one without a GPU: jupyter tfgpu image build --cpu.",
        )
    choices = PYTHONS[host.distribution]
    named = bool(python)
    python = python or host.python() or max(choices, key=lambda text: int(text.partition(".")[2]))
    if python not in choices:
        raise ConfigError(
            f"There is no {host.distribution.capitalize()} release with Python {python}.",
            f"choose one of {', '.join(choices)}.",
        )
    return Recipe(
        gpu=gpu,
        tensorflow=tensorflow or NEWEST.get(python, TENSORFLOW),
        python=python,
        release=Release(host.distribution, choices[python]),
        constraints=tuple(constraints),
        named_python=named,
        machine=machine,
    )


async def build(wanted: Recipe, engine: Engine, tag: str, report: Report) -> ImageRecord:
    """Build the image and name it. Cancelling leaves nothing behind.

    :raises ImageBuildFailed: with the last words of the step that failed.
    """
    base_tag = f"tfgpu-base/{wanted.release.codename}:{os.getpid()}"
    # Whoever finds these marks, and no process that bears them, may remove the image.
    marks = {labels.KIND: labels.KIND_WORKSHOP, labels.UID: os.geteuid(), labels.OWNER: Owner.current()}
    with scratch.folder() as folder:
        archive = folder / "root.tar"
        report(Step("building", f"Making a {wanted.release.codename} root file system", 0, 3))
        await bootstrap(wanted.release, archive, report)
        report(Step("building", "Importing it into the engine", 1, 3))
        changes = ['CMD ["bash"]', *(f"LABEL {name}={text}" for name, text in marks.items())]
        await engine.import_image(archive, base_tag, changes)
    try:
        base = await engine.image(base_tag)
        if base is None:
            raise ImageNotFound(f"{base_tag} was imported, but is gone.", "try again.")
        names = ", ".join(wanted.requirements())
        report(Step("building", f"Installing {names}", 2, 3))
        facts = await workshop.install(
            base,
            "/usr/bin/python3",
            workshop.Order(wanted.requirements(), wanted.constraints, new_pip="pip>=24", venv=VENV),
            engine,
            tag=tag,
            image_labels={
                labels.IMAGE_KIND: labels.IMAGE_KIND_BUILT,
                labels.IMAGE_PLAN: wanted.key(),
            },
            changes=wanted.changes(),
            said=lambda line: report(Step("building", line)),
        )
    finally:
        # By force: the container that installed is still being removed.
        await asyncio.shield(engine.remove_image(base_tag, force=True))
    made = await engine.image(tag)
    if made is None:
        raise ImageNotFound(f"{tag} was built, but is gone.", "try again; something else removes images.")
    await remember(made, facts)
    report(Step("ready", f"{tag}: TensorFlow {facts.tensorflow}, Python {facts.short_python}, "
                f"{made.size_bytes / 1e9:.1f} GB", 3, 3))  # fmt: skip
    return made


async def find(wanted: Recipe, tag: str, engine: Engine) -> ImageRecord | None:
    """Return the image of that name if it was built by this recipe."""
    record = await engine.image(tag)
    return record if record is not None and record.labels.get(labels.IMAGE_PLAN) == wanted.key() else None


async def bootstrap(release: Release, archive: Path, report: Report) -> None:
    """Write a root file system's tar archive by mmdebstrap.

    :raises ImageBuildFailed: where mmdebstrap is missing, or fails.
    """
    host = debian.host_release()
    if host is None or shutil.which("mmdebstrap") is None:
        raise ImageBuildFailed(
            "Building an image needs the program mmdebstrap, which is not on this machine.",
            "install it: sudo apt-get install mmdebstrap.",
        )
    command = debian.command(release, debian.sources(host, release), SYSTEM_PACKAGES, str(archive))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    try:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            lines.append(line)
            if line.startswith("I: ") and line.endswith("..."):
                report(Step("building", line[3:-3].capitalize()))
        code = await process.wait()
    except BaseException:
        # It mounts things in its folder, so it must end in its own way and take them away.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await asyncio.shield(process.wait())
        raise
    if code:
        text = "\n".join(lines[-25:])
        raise ImageBuildFailed(
            f"mmdebstrap could not make a {release.codename} root file system.",
            f"run it as root ({as_root('image', 'build')} …), or allow user namespaces: sudo apt-get install uidmap."
            if os.geteuid()
            else "see whether apt works on this machine: apt-get update.",
            text,
        )

"""Lock a notebook: run it in a clean kernel, and write down all that another machine needs to do the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat

from . import imagename
from .engine.base import Engine, ImageRecord
from .errors import ConfigError, ImageNotFound, LockStopped
from .gpu import nvml
from .image import ensure, reserved, resolve
from .launch import Kernel
from .lock import consent, data, normal, read, suspects
from .lock.record import (
    KEY,
    Cell,
    GpuKind,
    GpuNeed,
    Hardware,
    Image,
    Lock,
    Need,
    Package,
    Packages,
    Place,
    Repeatable,
    Software,
    Tolerance,
    to_json,
)
from .progress import Report, unheard
from .rerun import CellBegins, Rerun, rerun


@dataclass(frozen=True)
class Wishes:
    """What the author says besides."""

    kernel_name: str = "tfgpu"
    settings: Mapping[str, Any] = field(default_factory=dict)
    anew: bool = False
    """Whether a lock that is there already is left aside: image and packages are found anew."""
    need: Need | None = None
    least: tuple[tuple[int, int] | None, int | None] = (None, None)
    """Least compute capability, and least memory in bytes, of a GPU."""
    data: Sequence[str] = ()
    seed: int = 0
    op_determinism: bool = True
    tolerance: Tolerance | None = None
    twice: bool = False
    timeout: int | None = None


@dataclass(frozen=True)
class Locked:
    """The notebook with its outputs and its lock, and what its author should know."""

    notebook: Any
    lock: Lock
    notes: tuple[str, ...]
    run_seconds: float
    """What the run itself took, from the first cell to the last."""


async def lock(
    path: Path, notebook: Any, wishes: Wishes, engine: Engine, report: Report, begins: CellBegins
) -> Locked:
    """Run the notebook and lock it; the file is not written.

    :raises LockStopped: where a cell fails.
    """
    found = None if wishes.anew else await asyncio.to_thread(read.find, path)
    old = found.lock if found else None
    repeatable = Repeatable(wishes.seed, wishes.op_determinism)
    resolving: list[asyncio.Task[tuple[ImageRecord, Packages]]] = []

    def started(kernel: Kernel) -> None:
        # Hashes are asked for while the cells run: that costs the author no time.
        resolving.append(asyncio.ensure_future(environment(kernel, old, kept(notebook), engine)))

    async def once(hear: Callable[[Kernel], None] | None) -> Rerun:
        settings = dict(wishes.settings)
        if old is None and kept(notebook):
            settings["packages"] = [*settings.get("packages", ()), *kept(notebook)]
        done = await rerun(
            notebook, path, kernel_name=wishes.kernel_name, settings=settings, repeatable=repeatable,
            timeout=wishes.timeout, report=report, begins=begins, started=hear, follows_lock=old is not None,
        )  # fmt: skip
        if done.failed is not None:
            raise LockStopped(
                f"Cell {done.failed + 1} failed in a clean kernel: {done.error}. The notebook was not locked.",
                "make it run from top to bottom (Kernel → Restart Kernel and Run All Cells), then lock it again.",
            )
        return done

    began = time.time()
    try:
        done = await once(started)
        second = await once(None) if wishes.twice else None
        base, packages = await resolving[0]
    finally:
        for task in resolving:
            task.cancel()
    names, strange = data.locate(done.inside.files, path, done.kernel.mounts.outside)
    code = [cell for cell in done.notebook.cells if cell.cell_type == "code"]
    for cell in code:
        names |= {("notebook", name) for name in suspects.named_files(cell.source, path.parent)}
    files = await asyncio.to_thread(data.record, names | _declared(wishes.data, path), path, began)
    made = Lock(
        image=image_of(done.kernel.image.requested, base),
        packages=replace(packages, system=_system(done, old)),
        software=await _software(done, engine),
        gpu=_need(done.kernel, wishes, old),
        environment=_environment(done.inside.environment, repeatable),
        repeatable=repeatable,
        tolerance=wishes.tolerance or (old.tolerance if old else Tolerance()),
        data=files,
        recorded=await hardware(done),
        cells=tuple(
            Cell(
                normal.source_digest(cell.source),
                normal.digest(cell.outputs),
                _unrepeatable(cell, _at(second, number)),
            )
            for number, cell in enumerate(code)
        ),
    )
    reserved.note(done.kernel.image.record, str(path.resolve()))
    consent.give(made)  # who locks it has chosen the image, and has just run it
    notes = _notes(notebook, made, strange)
    put(done.notebook, made)
    return Locked(done.notebook, made, notes, done.seconds)


def put(notebook: Any, made: Lock | None) -> None:
    """Put a lock into a notebook, or take it out, and see that what remains is a valid notebook.

    :raises ConfigError: where it is none.
    """
    notebook.metadata.pop(KEY, None)
    if made is not None:
        notebook.metadata[KEY] = nbformat.from_dict(to_json(made))  # type: ignore[no-untyped-call]
        read.check(notebook.metadata[KEY])
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise ConfigError("This is no valid notebook.", "open and save it in JupyterLab.", str(error)) from error


def write(notebook: Any, path: Path) -> None:
    """Write a notebook whole or not at all; its folder is made, and it stays its owner's.

    What is no file, such as /dev/stdout, is written to and not replaced.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            nbformat.write(notebook, file)  # type: ignore[no-untyped-call]
        return
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            nbformat.write(notebook, file)  # type: ignore[no-untyped-call]
        if path.exists():
            shutil.copymode(path, name)
            before = path.stat()
            with contextlib.suppress(PermissionError):  # only root gives files away
                os.chown(name, before.st_uid, before.st_gid)
        else:
            os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def kept(notebook: Any) -> tuple[str, ...]:
    """Return the packages that the author keeps in this notebook."""
    raw = notebook.metadata.get(KEY)
    return read.check(raw).lock.packages.kept if raw is not None else ()


async def environment(
    kernel: Kernel, old: Lock | None, wanted: Sequence[str], engine: Engine
) -> tuple[ImageRecord, Packages]:
    """Return the image that was asked for, and what the kernel's image has beyond it, by hash."""
    base = await engine.image(kernel.image.requested)
    if base is None or base.layers != kernel.image.record.layers[: len(base.layers)]:
        alike = await engine.images({})
        base = next((one for one in alike if old is not None and one.layers == old.image.layers), None)
    if base is None:
        raise ImageNotFound(
            f"The image {kernel.image.requested} has gone, or another took its name, while the notebook ran.",
            "lock it again.",
        )
    reference = kernel.image.requested
    before = await ensure.known(base, reference, engine, unheard)
    after = await ensure.known(kernel.image.record, reference, engine, unheard)
    added = [f"{n}=={v}" for n, v in sorted(after.packages.items()) if before.packages.get(n) != v]
    known = {f"{one.name}=={one.version}": one for one in old.packages.added} if old else {}
    if set(added) <= set(known):
        packages = tuple(known[one] for one in added)
    else:
        resolved = await resolve.hashes(base, before, added, engine, lambda line: None)
        packages = tuple(Package(name, version, (sha256,)) for name, version, sha256 in sorted(resolved))
    layers = kernel.image.record.layers if kernel.image.record.layers != base.layers else ()
    return base, Packages(tuple(wanted), packages, (), layers, dict(sorted(after.packages.items())))


def _system(done: Rerun, old: Lock | None) -> tuple[str, ...]:
    """Return the packages of the distribution that were asked for, with the versions that came."""
    came = {name: f"{name}={version}" for name, _, version in (one.partition("=") for one in done.inside.system)}
    asked = old.packages.system if old else done.system_packages
    return tuple(came.get(one.partition("=")[0], one) for one in asked)


async def hardware(done: Rerun) -> Hardware:
    """Return what a run ran on: kinds and versions, nothing that tells one machine from another of its kind."""
    gpus: tuple[GpuKind, ...] = ()
    driver = ""
    if done.kernel.gpu.uuids:
        try:
            sample = await nvml.sample_async(nvml.PATIENCE_SECONDS)
            driver = sample.driver
            gpus = tuple(
                GpuKind(gpu.name, gpu.compute_capability, gpu.memory.total_bytes if gpu.memory else None)
                for gpu in sample.gpus
                if gpu.uuid in done.kernel.gpu.uuids
            )
        except nvml.NvmlError:
            pass  # the run is over; what can't be asked any more is not recorded
    return Hardware(
        cpu=done.inside.cpu[:120],
        threads=done.inside.threads,
        gpus=gpus,
        driver=driver,
        toolkit=await _toolkit() if gpus else "",
        seconds=round(done.seconds, 1),
    )


async def _toolkit() -> str:
    try:
        asked = await asyncio.create_subprocess_exec(
            "nvidia-ctk", "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        text = (await asked.communicate())[0].decode(errors="replace")
    except OSError:
        return ""
    version = re.search(r"\d+\.\d+\.\d+(?:-[\w.]+)?", text)
    return version[0] if version else ""


def image_of(requested: str, base: ImageRecord) -> Image:
    """Return what a lock says of an image that was asked for by this name."""
    reference, _, asked = requested.partition("@")
    wanted = imagename.repository(reference)
    digests = (one.partition("@")[2] for one in base.digests if imagename.repository(one) == wanted)
    digest = next(digests, asked)
    return Image(reference, base.layers, base.os, base.architecture, digest, base.size_bytes)


async def _software(done: Rerun, engine: Engine) -> Software:
    facts = await ensure.known(done.kernel.image.record, done.kernel.image.requested, engine, unheard)
    python = done.inside.python or ".".join(map(str, facts.python))
    return Software(python, facts.tensorflow, done.inside.cuda or facts.cuda, done.inside.cudnn or facts.cudnn)


def _need(kernel: Kernel, wishes: Wishes, old: Lock | None) -> GpuNeed:
    if wishes.need is None and wishes.least == (None, None) and old is not None:
        return old.gpu
    need: Need = wishes.need or ("required" if kernel.gpu.uuids else "optional")
    return GpuNeed(need, *wishes.least)


def _environment(inside: Mapping[str, str], repeatable: Repeatable) -> dict[str, str | None]:
    rules = read.schema()["properties"]["environment"]
    found: dict[str, str | None] = {
        name: inside.get(name)
        for name in rules["propertyNames"]["enum"]
        if re.search(rules["additionalProperties"]["pattern"], inside.get(name, "")[:64])
    }
    # These belong to a rerun. At an ordinary start they would forbid random numbers without a seed.
    return {**found, "TF_DETERMINISTIC_OPS": None, "TF_CUDNN_DETERMINISTIC": None}


def _declared(given: Sequence[str], notebook: Path) -> set[tuple[Place, str]]:
    found: set[tuple[Place, str]] = set()
    for text in given:
        path = Path(text).resolve()
        if not path.is_file() or not path.is_relative_to(notebook.resolve().parent):
            raise ConfigError(
                f"The data file {text} is not in the notebook's folder, so no lock can name it.",
                "move it there, beside the notebook or in a folder below.",
            )
        found.add(("notebook", str(path.relative_to(notebook.resolve().parent))))
    return found


def _at(second: Rerun | None, number: int) -> Any:
    if second is None:
        return None
    return [cell for cell in second.notebook.cells if cell.cell_type == "code"][number]


def _unrepeatable(cell: Any, again: Any) -> tuple[str, ...]:
    """Return why a cell's outputs may differ: suspected from its source, or seen in a second run."""
    why = suspects.reasons(cell.source) if cell.outputs else ()
    if again is None:
        return why
    if normal.outputs(cell.outputs) == normal.outputs(again.outputs):
        return ()
    return why or ("its outputs differed between two runs",)


def _notes(before: Any, made: Lock, strange: set[str]) -> tuple[str, ...]:
    notes = [
        f"Cell {number} may give other outputs at each run: {'; '.join(cell.unrepeatable)}."
        for number, cell in enumerate(made.cells or (), 1)
        if cell.unrepeatable
    ]
    counts = [cell.get("execution_count") for cell in before.cells if cell.cell_type == "code"]
    if suspects.out_of_order(counts):
        notes.append("The cells had been run in another order than from top to bottom; now they were.")
    if strange:
        notes.append(f"These files are read, but lie outside the notebook's folder, so the lock doesn't hold "
                     f"them: {', '.join(sorted(strange))}.")  # fmt: skip
    if not made.image.digest:
        notes.append(
            f"The image {made.image.reference} has never been in a registry, so others can't pull it: push it "
            "first, or hand it over (jupyter tfgpu export --image)."
        )
    return tuple(notes)

"""A lock as frozen records, and its JSON: the value of ``metadata.tfgpu`` in a notebook.

``schema-v1.json`` beside this file is the published form. What is read has been checked against it
(:mod:`tfgpu_kernel.lock.read`), so the readers here take it as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from .. import imagename

VERSION: Final = 1
KEY: Final = "tfgpu"
"""The key in a notebook's metadata."""

Need = Literal["required", "optional"]
Place = Literal["notebook", "keras-datasets"]


@dataclass(frozen=True)
class Image:
    """The image, by name, digest (empty where no registry ever had it) and layers."""

    reference: str
    layers: tuple[str, ...]
    os: str
    architecture: str
    digest: str = ""
    size_bytes: int | None = None

    @property
    def pinned(self) -> str:
        """The name to get it by: with its digest, where it has one."""
        return imagename.pinned(self.reference, self.digest) if self.digest else self.reference


@dataclass(frozen=True)
class Package:
    """One Python package that is added to the image, and the files that may be it."""

    name: str
    version: str
    sha256: tuple[str, ...]

    @property
    def line(self) -> str:
        """The package as a line of a requirements file in pip's hash-checking mode."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in self.sha256)])


@dataclass(frozen=True)
class Packages:
    """``kept``: what the author asked for. ``added``: what that takes. ``installed``: name → version of all.

    ``system`` are packages of the image's distribution as apt takes them, ``git=1:2.39.5-0+deb12u2``. ``layers`` are
    the diff_ids of the image with all that in it, as it was where it was locked.
    """

    kept: tuple[str, ...] = ()
    added: tuple[Package, ...] = ()
    system: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    installed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Software:
    """Versions as texts, empty where there is none."""

    python: str = ""
    tensorflow: str = ""
    cuda: str = ""
    cudnn: str = ""


@dataclass(frozen=True)
class GpuNeed:
    """Whether the notebook needs a GPU, and what that must at least be."""

    need: Need = "optional"
    compute_capability: tuple[int, int] | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class GpuKind:
    """A GPU of the recorded run, without what tells it from others of its model."""

    name: str
    compute_capability: tuple[int, int] | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Hardware:
    """What a run ran on."""

    cpu: str = ""
    threads: int | None = None
    gpus: tuple[GpuKind, ...] = ()
    driver: str = ""
    toolkit: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Repeatable:
    """How a rerun is made repeatable."""

    seed: int = 0
    op_determinism: bool = True


@dataclass(frozen=True)
class Tolerance:
    """How far numbers and pictures may be apart to count as within tolerance."""

    relative: float = 1e-5
    absolute: float = 1e-8
    pixels: float = 0.01


@dataclass(frozen=True)
class DataFile:
    """A file that the notebook reads."""

    place: Place
    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Cell:
    """A code cell: hashes of its source and of its outputs, and why these may differ."""

    source: str
    outputs: str
    unrepeatable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lock:
    """All of it. Without ``cells`` it holds an environment, but no results to compare with."""

    image: Image
    packages: Packages = field(default_factory=Packages)
    software: Software = field(default_factory=Software)
    gpu: GpuNeed = field(default_factory=GpuNeed)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    repeatable: Repeatable = field(default_factory=Repeatable)
    tolerance: Tolerance = field(default_factory=Tolerance)
    data: tuple[DataFile, ...] = ()
    recorded: Hardware = field(default_factory=Hardware)
    cells: tuple[Cell, ...] | None = None

    def subject(self) -> str:
        """Return what a consent is for: a hash of the image and of all that is added to it."""
        layers = [*self.image.layers, "", *self.packages.layers]
        lines = sorted([*(package.line for package in self.packages.added), *self.packages.system])
        parts = [self.image.digest, *layers, *lines]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def to_json(lock: Lock) -> dict[str, Any]:
    """Return the lock as plain data; what is not known is left out."""
    plain: dict[str, Any] = json.loads(json.dumps({"version": VERSION, **asdict(lock)}))
    bare: dict[str, Any] = _without_nothing(plain)
    # Here null says something: that the variable was not set.
    return {**bare, "environment": dict(lock.environment)}


def from_json(raw: Mapping[str, Any]) -> Lock:
    """Read what the schema has accepted; unknown keys at the top are left aside."""
    image = raw["image"]
    packages = raw.get("packages", {})
    recorded = raw.get("recorded", {})
    cells = raw.get("cells")
    return Lock(
        image=Image(**{**image, "layers": tuple(image["layers"])}),
        packages=Packages(
            kept=tuple(packages.get("kept", ())),
            added=tuple(
                Package(one["name"], one["version"], tuple(one["sha256"])) for one in packages.get("added", ())
            ),
            system=tuple(packages.get("system", ())),
            layers=tuple(packages.get("layers", ())),
            installed=dict(packages.get("installed", {})),
        ),
        software=Software(**raw.get("software", {})),
        gpu=GpuNeed(**_capable(raw.get("gpu", {}))),
        environment=dict(raw.get("environment", {})),
        repeatable=Repeatable(**raw.get("repeatable", {})),
        tolerance=Tolerance(**raw.get("tolerance", {})),
        data=tuple(DataFile(**one) for one in raw.get("data", ())),
        recorded=Hardware(
            **{**recorded, "gpus": tuple(GpuKind(**_capable(one)) for one in recorded.get("gpus", ()))}
        ),
        cells=None
        if cells is None
        else tuple(Cell(one["source"], one["outputs"], tuple(one.get("unrepeatable", ()))) for one in cells),
    )


def _capable(raw: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(raw)
    if "compute_capability" in found:
        found["compute_capability"] = tuple(found["compute_capability"])
    return found


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(one) for key, one in value.items() if one not in (None, "", [], {})}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value

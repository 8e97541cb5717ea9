"""What a server leaves for the one after it: all that is needed to take a running kernel up again.

It lies beside the state file in the run folder (``handover.json``, for the server's user alone). The kernel's own
connection file isn't asked, since a kernel may write there what it likes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from .config import KernelConfig
from .connection import Connection
from .engine.base import Engine
from .gpus import Grant
from .identity import Identity
from .image.ready import ReadyImage
from .launch import Kernel
from .mounts import Mounts
from .runfolder import RunFolder

FILE: Final = "handover.json"
T = TypeVar("T")


@dataclass(frozen=True)
class Handover:
    """A kernel as the next server needs it."""

    kernel_id: str
    root: str
    """Root folder of the server; empty where the kernel had none (nbclient, papermill)."""
    cwd: str
    env: Mapping[str, str]
    """What the caller added to the server's environment; a restart adds it again."""
    container: str
    connection: Connection
    identity: Identity
    image: ReadyImage
    mounts: Mounts
    gpu: Grant
    seconds: float
    grace_busy: float = KernelConfig.grace_busy
    grace_idle: float = KernelConfig.grace_idle

    @classmethod
    def of(
        cls, kernel: Kernel, kernel_id: str, root: str, cwd: str, env: Mapping[str, str], config: KernelConfig
    ) -> Handover:
        """Return what is to be left of a kernel that runs."""
        return cls(
            kernel_id,
            root,
            cwd,
            dict(env),
            kernel.container,
            kernel.connection,
            kernel.identity,
            kernel.image,
            kernel.mounts,
            kernel.gpu,
            kernel.seconds,
            config.grace_busy,
            config.grace_idle,
        )

    def kernel(self, run: RunFolder, engine: Engine) -> Kernel:
        """Return the kernel as its launch would have, with its container watched from now on."""
        return Kernel(
            self.container,
            engine.watch(self.container),
            self.connection,
            run,
            self.identity,
            self.image,
            self.mounts,
            self.gpu,
            self.seconds,
        )

    def write(self, run: RunFolder) -> None:
        """Put it into the run folder.

        :raises NoSpace: when the disk is full.
        """
        run.keep(FILE, json.dumps(asdict(self)).encode())


def read(run: RunFolder) -> Handover | None:
    """Read what was left; None where there is nothing, or it makes no sense, as that of another version may.

    What a later version left besides is not needed here.
    """
    try:
        return _built(Handover, json.loads((run.path / FILE).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def unreadable(run: RunFolder) -> bool:
    """Whether something was left by which nobody can take the kernel up."""
    return os.path.lexists(run.path / FILE) and read(run) is None


def root_of(folder: str) -> str:
    """Return a server's root folder in the form in which two are compared."""
    return os.path.realpath(folder) if folder else ""


def _built(kind: type[T], raw: Any) -> T:
    """Make a frozen record of what ``json`` made of one; its parts likewise."""
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(raw, dict):
        raise ValueError(f"not a {kind.__name__}")
    return kind(**{name: _value(hints[name], value) for name, value in raw.items() if name in names})


def _value(hint: Any, raw: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _built(hint, raw)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and raw is not None:
        if arguments[-1] is Ellipsis:
            return tuple(_value(arguments[0], item) for item in raw)
        return tuple(_value(part, item) for part, item in zip(arguments, raw, strict=True))
    if origin in {types.UnionType, typing.Union} and raw is not None:
        return _value(next(part for part in arguments if part is not type(None)), raw)
    return raw

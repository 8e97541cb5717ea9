"""Read a lock from a notebook that may be anybody's: bounded, checked, and with nothing taken on trust.

What a notebook says never decides about mounts, privileges, the runtime or the user: such keys are told as
ignored. The rest must fit the schema to the letter, or the lock is refused as a whole.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jsonschema

from ..errors import LockInvalid, LockTooNew
from .record import KEY, VERSION, Lock, from_json

MAX_NOTEBOOK_BYTES: Final = 512 * 2**20
MAX_LOCK_BYTES: Final = 8 * 2**20
_SAID: Final = 200
"""How many characters of what a stranger wrote are shown."""


@dataclass(frozen=True)
class Found:
    """A notebook's lock, and the keys of it that mean nothing here."""

    lock: Lock
    ignored: tuple[str, ...] = ()


def find(path: Path) -> Found | None:
    """Return the lock of a notebook; None where the file is no notebook, or has none.

    :raises LockInvalid: where there is something in its place that can't be a lock.
    :raises LockTooNew: where it was written by a later version of this package.
    """
    data = _bytes(path)
    if data is None or f'"{KEY}"'.encode() not in data:
        return None
    notebook = parse(data, path)
    metadata = notebook.get("metadata") if isinstance(notebook, dict) else None
    raw = metadata.get(KEY) if isinstance(metadata, dict) else None
    return None if raw is None else check(raw)


def check(raw: Any) -> Found:
    """Judge the value of ``metadata.tfgpu``.

    :raises LockInvalid: where it doesn't fit the schema.
    :raises LockTooNew: where its version is later than ours.
    """
    if not isinstance(raw, Mapping):
        raise _invalid(f"it is a {type(raw).__name__}, not an object")
    version = raw.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise LockTooNew(
            f"The notebook was locked by a later tfgpu-kernel: its lock has version {min(version, 10**9)}"
            f"; this one reads up to version {VERSION}.",
            "upgrade: pip install --upgrade tfgpu-kernel.",
        )
    try:
        size = len(json.dumps(raw))
    except (ValueError, RecursionError) as error:
        raise _invalid(str(error)) from error
    if size > MAX_LOCK_BYTES:
        raise _invalid(f"it has {size / 2**20:.0f} MB; at most {MAX_LOCK_BYTES / 2**20:.0f} MB are read")
    fault = next(iter(_validator().iter_errors(raw)), None)
    if fault is not None:
        where = "/".join(str(part) for part in fault.absolute_path) or "the whole"
        raise _invalid(f"{_short(where)}: {_short(fault.message)}")
    lock = from_json(raw)
    unknown = sorted(_short(repr(key)) for key in raw if key not in schema()["properties"])
    return Found(lock, tuple(unknown))


def parse(data: bytes, path: Path) -> Any:
    """Read a notebook's JSON.

    :raises LockInvalid: where it is none, or one that is meant to break its readers.
    """
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{path.name} is no readable JSON: {_short(str(error))}") from error


@functools.cache
def schema() -> Mapping[str, Any]:
    """Return the published schema."""
    loaded: Mapping[str, Any] = json.loads(
        (importlib.resources.files(__package__) / f"schema-v{VERSION}.json").read_text()
    )
    return loaded


def check_data_name(name: str) -> bool:
    """Whether a lock may name a data file so."""
    rule = schema()["properties"]["data"]["items"]["properties"]["name"]
    return bool(jsonschema.Draft202012Validator(rule).is_valid(name))


@functools.cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(schema())


def _bytes(path: Path) -> bytes | None:
    """Return a regular file's content; None where there is none. A pipe or a device is never waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        if status.st_size > MAX_NOTEBOOK_BYTES:
            raise _invalid(f"{path.name} has {status.st_size / 2**20:.0f} MB, too many to look for a lock in")
        return file.read(MAX_NOTEBOOK_BYTES)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _short(text: str) -> str:
    plain = "".join(sign if sign.isprintable() else "?" for sign in text)
    return plain if len(plain) <= _SAID else f"{plain[:_SAID]} …"


def _invalid(why: str) -> LockInvalid:
    return LockInvalid(
        "The notebook's lock (metadata.tfgpu) can't be used, so nothing was fetched or started.",
        "ask its author for the notebook again, or take the lock off: jupyter tfgpu lock --remove NOTEBOOK.",
        why,
    )

"""Keep a kernel to some of the GPUs that its container sees.

A container's GPUs are fixed when it is made. A kernel that waits for any of the shared ones sees all of them, and is
told its own when it is taken: from then on CUDA shows no others, also where a cell chooses by number or takes the
variable away.
"""

import os
from typing import Any, List, Sequence

NAME = "CUDA_VISIBLE_DEVICES"


def narrow(uuids: Sequence[str]) -> None:
    """Let CUDA see these GPUs alone; the first of them is number 0."""
    os.environ[NAME] = ",".join(uuids)
    owner = putenv_owner()
    put, unset = owner.putenv, owner.unsetenv

    def putenv(key: Any, value: Any) -> None:
        if os.fsdecode(key) == NAME:
            value = _like(value, translated(os.fsdecode(value), uuids))
        put(key, value)

    def unsetenv(key: Any) -> None:
        if os.fsdecode(key) == NAME:
            put(key, _like(key, ",".join(uuids)))
        else:
            unset(key)

    owner.putenv, owner.unsetenv = putenv, unsetenv


def translated(text: str, uuids: Sequence[str]) -> str:
    """Return what CUDA must be told for what a cell says of the GPUs that it knows; -1 ends CUDA's list."""
    told: List[str] = []
    if not text:
        return text  # none at all
    for part in (part.strip() for part in text.split(",")):
        if part.isdigit() and int(part) < len(uuids):
            told.append(uuids[int(part)])
        elif part and any(uuid.startswith(part) for uuid in uuids):
            told.append(part)
        else:
            return ",".join([*told, "-1"])
    return ",".join(told)


def putenv_owner() -> Any:
    """Return where os.environ looks putenv and unsetenv up: Python 3.6 to 3.8 keep them in os.environ itself."""
    return os.environ if hasattr(os.environ, "putenv") else os


def _like(model: Any, text: str) -> Any:
    return os.fsencode(text) if isinstance(model, bytes) else text

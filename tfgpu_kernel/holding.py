"""Who holds the GPUs, in words for the one who gets none."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import GpusTaken
from .gpu.units import Unit
from .lease import Holder
from .runfolder import RunFolder


def taken(
    number: int, candidates: Sequence[Unit], available: Sequence[Unit], held: Sequence[Holder], ahead: int
) -> GpusTaken:
    """Return the error that names who has the GPUs, since when, and which of them is idle."""
    wants = "a GPU" if number == 1 else f"{number} GPUs"
    told = [_account(unit, [holder for holder in held if holder.gpu == unit.uuid]) for unit in candidates
            if unit not in available]  # fmt: skip
    queue = f" {ahead} wait already." if ahead else ""
    return GpusTaken(
        f"The kernel wants {wants}, and {'none' if not available else f'only {len(available)}'} of {len(candidates)} "
        f"can be had now.{queue} {' '.join(told)}".rstrip(),
        "shut down a notebook that you no longer need (an idle one first), or set when_full to wait or cpu.",
    )


def _account(unit: Unit, holders: Sequence[Holder]) -> str:
    idle = " It is idle." if unit.utilisation == 0 and not unit.computing and unit.computing is not None else ""
    if holders:
        one = " It takes one process at a time (compute mode)." if unit.compute_mode == "exclusive-process" else ""
        return f"GPU {unit.place}: {', '.join(map(_holder, holders))}.{one}{idle}"
    if unit.computing:
        return f"GPU {unit.place}: process {', '.join(map(_process, unit.computing))}, which is no kernel with a lease."
    if not unit.unused and unit.free_bytes is not None and unit.total_bytes is not None:
        used = (unit.total_bytes - unit.free_bytes) / 2**30
        return f"GPU {unit.place}: {used:.1f} GiB of its memory are in use, and the driver doesn't say by whom."
    return f"GPU {unit.place}: kept for who waits."


def _holder(holder: Holder) -> str:
    since = time.strftime("%H:%M" if time.time() - holder.since < 12 * 3600 else "%d %b %H:%M",
                          time.localtime(holder.since))  # fmt: skip
    state = RunFolder(Path(holder.run)).state()
    if state is not None:
        what = state.notebook or f"kernel {state.kernel_id[:8]}"
        what += f" of {_user(holder.uid)}" if holder.uid != os.geteuid() else ""
    else:
        what = f"a kernel of {_user(holder.uid)}"
    return f"{what} since {since}"


def _process(pid: int) -> str:
    try:
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return str(pid)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"



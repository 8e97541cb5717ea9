"""Why a run of cells broke off: its kernel's death as the autopsy knows it, or a cell that took too long."""

from __future__ import annotations

from nbclient.exceptions import CellTimeoutError

from .errors import RunStopped, TfgpuError


def stopped(error: Exception, cell: int, timeout: int | None, death: TfgpuError | None) -> RunStopped:
    """Return our error for what nbclient raises where a run can't go on.

    :param error: nbclient's ``DeadKernelError`` (a RuntimeError) or ``CellTimeoutError``.
    :param cell: the cell's number, from 1 on; 0 where none had begun.
    :param timeout: seconds that a cell may take; None for no limit.
    :param death: what the provisioner found out about its kernel's end.
    """
    where = f"in cell {cell}" if cell else "before the first cell"
    if isinstance(error, CellTimeoutError):
        return RunStopped(
            f"Cell {cell} took longer than {timeout} s, and the run was broken off there.",
            "give each cell more time (--timeout SECONDS; without it there is no limit).",
        )
    if death is not None:
        return RunStopped(f"The run broke off {where}. {death.message}", death.remedy, death.details)
    return RunStopped(
        f"The run broke off {where}: the kernel ended, or gave no answer.",
        "run the notebook in JupyterLab to see why.",
        str(error),
    )

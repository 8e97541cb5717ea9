"""Run a notebook from top to bottom, headless, and keep the result."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellExecutionError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .. import launches
from ..engine import find
from ..errors import ConfigError
from ..launches import Launch
from ..overlay import OverlaidSpecs
from ..provisioner import TfgpuProvisioner
from ..runner import Runner
from ..stopped import stopped
from . import outputs
from .notebook import Written, keep_result, read
from .running import add_consent, agreed
from .settings import add_settings, chosen_settings, of_kernel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where the executed notebook goes (default: in place)")
    parser.add_argument("--kernel", default="tfgpu", help="kernelspec to start (default: %(default)s)")
    parser.add_argument("--timeout", type=int, help="seconds a cell may take (default: no limit)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what it ran on to FILE")
    add_consent(parser)
    add_settings(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Execute the notebook; it is written also when a cell fails. Return 1 then."""
    settings = chosen_settings(arguments)
    config = of_kernel(arguments)
    source = read(arguments.notebook)
    notebook = source.notebook()
    output = arguments.output or arguments.notebook
    outputs.check(output, arguments.json)
    found = await agreed(arguments.notebook, find.engine(), config, yes=arguments.yes)
    if found is not None and settings.keys() & {"image", "packages"}:
        raise ConfigError(
            "The notebook is locked to an image and its packages, so no others can be given.",
            f"take the lock off first: jupyter tfgpu lock --remove {arguments.notebook}.",
        )
    specs = OverlaidSpecs()
    specs.settings = settings
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    )
    facts: dict[str, Any] = {}
    client = Runner(
        notebook,
        kernel_name=arguments.kernel,
        timeout=arguments.timeout,
        resources={"metadata": {"path": str(arguments.notebook.resolve().parent)}},
    )
    manager = client.create_kernel_manager()
    manager.kernel_spec_manager = specs
    told = ["Starting the kernel"]
    task = progress.add_task(told[-1], total=len(notebook.cells))
    at = 0  # the number of the cell that runs

    def launched(launch: Launch) -> None:
        if launch.step is not None and launch.step.text != told[-1]:
            told.append(launch.step.text)
            if not progress.console.is_terminal:
                progress.console.print(launch.step.text, soft_wrap=True)
            progress.update(task, description=launch.step.text)

    def begins(**_: object) -> None:
        provisioner = manager.provisioner
        assert isinstance(provisioner, TfgpuProvisioner)  # of_kernel takes no other
        facts.update(provisioner.facts())

    def cell(cell: Any, cell_index: int) -> None:
        nonlocal at
        at = cell_index + 1
        progress.update(task, completed=cell_index, description=f"Cell {at} of {len(notebook.cells)}")

    client.on_notebook_start, client.on_cell_start = begins, cell
    stop = launches.listen(launched)
    failed, written = 0, Written(output)
    began = time.time()
    try:
        with progress:
            try:
                # By the notebook's path the start finds its lock.
                named = {"JPY_SESSION_NAME": str(arguments.notebook.resolve())} if found else {}
                await client.async_execute(env={**os.environ, **named})
                progress.update(task, completed=len(notebook.cells), description="Done")
            except CellExecutionError as error:
                sys.stderr.write(f"{error}\n")
                failed = 1
            except BaseException as error:
                if client.interrupted:
                    raise KeyboardInterrupt from None
                if not isinstance(error, RuntimeError | TimeoutError):
                    raise
                death = getattr(manager.provisioner, "death", None)
                sys.stderr.write(f"\n{stopped(error, at, arguments.timeout, death)}\n")
                failed = 1
    finally:
        stop()
        await find.engine().close()
        if facts:  # else there was no kernel, and there is nothing to keep
            written = keep_result(source, notebook, output, "executed")
            print(f"Wrote {written.path}")
    if arguments.json:
        report = {**facts, "notebook": str(written.path), "seconds": time.time() - began}
        outputs.write(arguments.json, json.dumps(report, indent=1) + "\n")
    if written.trouble is not None:
        raise written.trouble
    return failed

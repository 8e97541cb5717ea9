"""Run a locked notebook in its environment, and say how well its results come out again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from .. import locking
from .. import report as reports
from .. import verify as verifying
from ..engine import find
from ..errors import ConfigError, NotLocked
from ..lock import normal
from ..lock.compare import Grade
from . import outputs
from .notebook import read
from .running import add_running, agreed, progressing
from .settings import add_settings, chosen_settings, of_kernel

NOT_REPRODUCED: Final = 3
"""Exit code when the rerun is over and its results are not those that were recorded; 1 where there was none."""
_LEAST: Final = {"identical": Grade.IDENTICAL, "digits": Grade.DIGITS, "tolerance": Grade.TOLERANCE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    parser.add_argument("--least", choices=tuple(_LEAST), default="tolerance", help="the worst grade that counts as "
                        "reproduced (default: %(default)s)")  # fmt: skip
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report for programs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the notebook of the rerun")
    parser.add_argument("--sanitize-with", type=Path, metavar="FILE", help="take these patterns out of outputs first; "
                        "a file as nbval has them")  # fmt: skip
    add_running(parser)
    add_settings(parser, without=("image", "packages"))


async def run(arguments: argparse.Namespace) -> int:
    """Verify the notebook; its own file stays as it is."""
    settings = chosen_settings(arguments)
    config = of_kernel(arguments)
    path: Path = arguments.notebook
    notebook = read(path).notebook()
    outputs.check(arguments.html, arguments.json, arguments.output)
    engine = find.engine()
    try:
        found = await agreed(path, engine, config, yes=arguments.yes)
        if found is None:
            raise NotLocked(f"The notebook {path} has no lock.", f"lock it: jupyter tfgpu lock {path}.")
        with progressing() as (report, begins):
            result = await verifying.verify(
                path, notebook, found, engine, kernel_name=arguments.kernel, settings=settings,
                least=_LEAST[arguments.least], further=_sanitizers(arguments.sanitize_with),
                timeout=arguments.timeout, report=report, begins=begins,
            )  # fmt: skip
    finally:
        await engine.close()
    print(reports.to_text(result), flush=True)  # first: it is there whatever becomes of the files
    if arguments.html:
        outputs.write(arguments.html, reports.to_html(result))
    if arguments.json:
        outputs.write(arguments.json, json.dumps(reports.to_json(result), indent=1) + "\n")
    if arguments.output:
        locking.write(result.rerun, arguments.output)
    return 0 if result.reproduced else NOT_REPRODUCED


def _sanitizers(file: Path | None) -> tuple[normal.Sanitizer, ...]:
    if file is None:
        return ()
    try:
        return normal.sanitizers(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"The file {file} can't be used.", "give one as nbval's docs show.", str(error)) from error

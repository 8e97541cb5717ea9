"""Run a notebook in a clean kernel, and lock it: what others need to reproduce it goes into the file."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from .. import locking
from ..engine import find
from ..errors import ConfigError
from ..lock.record import Tolerance
from . import outputs
from .notebook import keep_result, read
from .running import add_running, agreed, progressing
from .settings import add_settings, chosen_settings, of_kernel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where the locked notebook goes (default: in place)")
    parser.add_argument("--anew", action="store_true", help="leave a lock that is there aside: find the image anew")
    parser.add_argument("--remove", action="store_true", help="take the lock off, and do nothing else")
    parser.add_argument("--twice", action="store_true", help="run a second time, to see which cells repeat themselves")
    parser.add_argument("--gpu", choices=("required", "optional"), help="whether others need a GPU "
                        "(default: required, if this run has one)")  # fmt: skip
    parser.add_argument("--least-capability", metavar="X.Y", help="least compute capability of that GPU")
    parser.add_argument("--least-gpu-memory", metavar="GB", type=float, help="least memory of that GPU")
    parser.add_argument("--data", action="append", default=[], metavar="FILE", help="a file that the notebook reads, "
                        "where that is not found by itself; may be repeated")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: %(default)s)")
    parser.add_argument("--no-op-determinism", dest="op_determinism", action="store_false", help="allow TensorFlow "
                        "operations that don't repeat themselves")  # fmt: skip
    parser.add_argument("--relative", type=float, help="relative tolerance of numbers (default: 1e-5)")
    parser.add_argument("--absolute", type=float, help="absolute tolerance of numbers (default: 1e-8)")
    parser.add_argument("--pixels", type=float, help="tolerated mean difference of pictures, 0 to 1 (default: 0.01)")
    add_running(parser)
    add_settings(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Lock the notebook; its file changes only when all went well, and nobody else changed it meanwhile."""
    settings = chosen_settings(arguments)
    config = of_kernel(arguments)
    path: Path = arguments.notebook
    source = read(path)
    notebook = source.notebook()
    output: Path = arguments.output or path
    outputs.check(output)
    if arguments.remove:
        locking.put(notebook, None)
        locking.write(notebook, output)
        print(f"Took the lock off {output}")
        return 0
    given = {
        name: value for name in ("relative", "absolute", "pixels") if (value := getattr(arguments, name)) is not None
    }
    wishes = locking.Wishes(
        kernel_name=arguments.kernel,
        settings=settings,
        anew=arguments.anew,
        need=arguments.gpu,
        least=(_capability(arguments.least_capability), _bytes(arguments.least_gpu_memory)),
        data=arguments.data,
        seed=arguments.seed,
        op_determinism=arguments.op_determinism,
        tolerance=Tolerance(**given) if given else None,
        twice=arguments.twice,
        timeout=arguments.timeout,
    )
    engine = find.engine()
    try:
        if not arguments.anew:
            await agreed(path, engine, config, yes=arguments.yes)
        with progressing() as (report, begins):
            made = await locking.lock(path, notebook, wishes, engine, report, begins)
    finally:
        await engine.close()
    for note in made.notes:
        print(f"Note: {note}")
    written = keep_result(source, made.notebook, output, "locked")
    if written.trouble is not None:
        raise written.trouble
    print(f"Locked {output} to {made.lock.image.pinned}")
    return 0


def _capability(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text)
    if match is None:
        raise ConfigError(f"{text!r} is no compute capability.", "write it as 8.0.")
    return int(match[1]), int(match[2])


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 1e9)

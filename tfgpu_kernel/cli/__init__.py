"""``jupyter tfgpu VERB``: one verb a module, each with ``add_arguments(parser)`` and ``run(arguments)``."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from .. import __version__
from ..errors import ConfigError, NoSpace, TfgpuError, is_full

VERBS: Final = (
    "install", "execute", "lock", "verify", "add", "remove", "export", "import",
    "image", "ps", "logs", "exec", "stop", "adopt", "doctor", "prune",
)
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


def parser(known: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """Return the parser of some verbs."""
    top = argparse.ArgumentParser(
        prog="jupyter tfgpu", description="Jupyter kernels in TensorFlow containers on the host's GPU."
    )
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for verb in known:
        module = importlib.import_module(f"{__name__}.{verb}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        one = verbs.add_parser(verb, help=summary, description=module.__doc__)
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; an explained failure is printed, without a traceback."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # jupyter_client logs a traceback of each failed start; what went wrong is told below, once.
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        # The others' modules take a second to import.
        chosen = parser(given[:1] if given and given[0] in VERBS else VERBS).parse_args(given)
        return int(asyncio.run(chosen.run(chosen)))
    except TfgpuError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except OSError as error:  # of a file or folder that was named; those of engines and servers are translated
        sys.stderr.write(f"\n{_of_the_system(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED


def _of_the_system(error: OSError) -> TfgpuError:
    """Return our error for one of the system's that no verb has words of its own for."""
    where = error.filename2 or error.filename
    if is_full(error):
        full = f"There is no room for {os.fsdecode(where)}" if where is not None else "A disk is full"
        return NoSpace(f"{full}: {error.strerror}.", "make room there (df -h shows which disk), and try again.")
    if where is None:
        return ConfigError(f"The system refused what was asked of it: {error}.", "put that right, and try again.")
    return ConfigError(
        f"{os.fsdecode(where)} can't be used: {error.strerror}.",
        "see that it is what you meant, and that you may read and write there.",
    )

"""Correct what was noted of the working directory, when a kernel that waited is given its notebook's.

Modules that note it at their import did so in the folder where the kernel waited, or while it imported ahead.
"""

import os
import sys
from typing import Any, Callable

NOTED = (
    ("multiprocessing.process", "ORIGINAL_DIR"),  # where processes that it starts look for modules
    ("rich", "_IMPORT_CWD"),
)


def move(folder: str, module: Callable[[str], Any]) -> None:
    """Go to a folder, as if everything had been imported there.

    :param module: returns the module of a name, hidden or not, or None.
    """
    before = os.getcwd()
    os.chdir(folder)
    for name, variable in NOTED:
        if getattr(module(name), variable, None):
            setattr(module(name), variable, os.getcwd())
    # Python has made these absolute when it began.
    text = os.environ.get("PYTHONPATH", "")
    named = {part for part in text.split(os.pathsep) if text and not os.path.isabs(part)}
    here = {os.path.abspath(os.path.join(before, part)): os.path.abspath(part) for part in named}
    sys.path[:] = [here.get(path, path) for path in sys.path]

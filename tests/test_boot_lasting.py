"""What a kernel consists of is called lasting, also by a Python that lacks a part."""

from __future__ import annotations

import subprocess
import sys


def test_python_without_libffi_does_without() -> None:
    """A Python that was built without ctypes becomes a kernel all the same, with all of it lasting."""
    code = (
        "import gc, sys; sys.modules['ctypes'] = None\n"
        "from tfgpu_kernel.boot import main\n"
        "names = {'a': []}; main.lasting.note(names)\n"
        "print(gc.get_freeze_count() > 1000, any(one is names for one in gc.get_objects()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True False\n", done.stderr

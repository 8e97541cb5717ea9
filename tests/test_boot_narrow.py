"""A kernel that sees more GPUs than are its own: CUDA is told of its own alone, whatever a cell says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tfgpu_kernel.boot.narrow import translated

OWN = ("GPU-b", "GPU-c")
SAID = """
import ctypes, os
from tfgpu_kernel.boot.narrow import narrow
get = ctypes.CDLL(None).getenv
get.restype = ctypes.c_char_p
def cuda(): return (get(b"CUDA_VISIBLE_DEVICES") or b"").decode()
narrow(["GPU-b", "GPU-c"])
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [("0", "GPU-b"), ("1,0", "GPU-c,GPU-b"), ("", ""), ("-1", "-1"), ("2", "-1"), ("0,7,1", "GPU-b,-1"),
     ("GPU-c", "GPU-c"), ("GPU-a", "-1"), ("GPU-a,GPU-b", "-1"), (" 1 ", "GPU-c")],
)  # fmt: skip
def test_numbers_are_those_of_its_own(text: str, told: str) -> None:
    """Numbers count its own GPUs, others' are not there, and what is not there ends the list as CUDA has it."""
    assert translated(text, OWN) == told


def test_cuda_sees_its_own_whatever_a_cell_does() -> None:
    """Set, changed or taken away, the variable names only the kernel's own; a cell reads what it wrote."""
    code = SAID + (
        "print(cuda(), os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "os.environ['CUDA_VISIBLE_DEVICES'] = '1'; print(cuda(), os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "del os.environ['CUDA_VISIBLE_DEVICES']; print(cuda(), 'CUDA_VISIBLE_DEVICES' in os.environ)\n"
        "os.environ['OTHER'] = '1'; print(os.popen('echo $OTHER $CUDA_VISIBLE_DEVICES').read().strip())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "GPU-b,GPU-c GPU-b,GPU-c", "GPU-c 1", "GPU-b,GPU-c False", "1 GPU-b,GPU-c",
    ]  # fmt: skip

"""What would run a mounted folder's code before the mounts are compared is kept back, and nothing else is."""

from __future__ import annotations

import pytest

from tfgpu_kernel.mounts import Bind, Mounts
from tfgpu_kernel.postpone import postpone

MOUNTS = Mounts((Bind("/home/ada", "/home/ada", False, (1, 2)), Bind("/r/io", "/tfgpu/run", False)), ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PYTHONPATH", "/home/ada"),
        ("PYTHONPATH", "/opt:/home/ada/lib"),
        ("PYTHONPATH", "/opt/../home/ada"),
        ("PYTHONPATH", "lib"),
        ("PYTHONPATH", "/opt:"),
        ("PYTHONPATH", "/proc/self/cwd"),
        ("PYTHONHOME", "/home/ada/python"),
        ("LD_PRELOAD", "/opt/a.so /home/ada/b.so"),
        ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64:"),
    ],
)
@pytest.mark.parametrize("by", ["the kernel's settings", "the image"])
def test_what_leads_into_a_mount_is_kept_back(name: str, text: str, by: str) -> None:
    """The variable itself is taken away, whoever sets it, and its text goes in under another name."""
    entry = f"{name}={text}"
    own, inherited = (["A=1", entry], []) if by == "the kernel's settings" else (["A=1"], [entry])
    made = postpone({"Image": "i", "Env": own}, inherited, MOUNTS)
    assert made == {"Image": "i", "Env": ["A=1", name, f"TFGPU_POSTPONED_{name}={text}"]}


@pytest.mark.parametrize(
    "entry",
    ["PYTHONPATH=/opt/lib", "PYTHONPATH=", "PYTHONPATH=/home/adam", "LD_LIBRARY_PATH=/usr/lib:/opt", "DATA=/home/ada"],
)
def test_what_leads_elsewhere_acts_at_once(entry: str) -> None:
    """Starting Python twice takes its time: only who needs it pays."""
    assert postpone({"Env": ["A=1", entry, "JPY_PARENT_PID"]}, [], MOUNTS) == {"Env": ["A=1", entry, "JPY_PARENT_PID"]}
    assert postpone({"Env": ["A=1"]}, [entry], MOUNTS) == {"Env": ["A=1"]}

"""What a user installs: the wheel, with everything that Jupyter looks for in it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_what_jupyter_looks_for(tmp_path: Path) -> None:
    """Kernelspecs with logos, the built lab extension, the server's configuration; no sources of others."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        timeout=280,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition(".data/data/")[2] for name in names}
    for kernel in ("tfgpu", "tfcpu"):
        for file in ("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"):
            assert f"share/jupyter/kernels/{kernel}/{file}" in shared
    assert "etc/jupyter/jupyter_server_config.d/tfgpu_kernel.json" in shared
    assert "share/jupyter/labextensions/@tfgpu/labextension/package.json" in shared
    assert any("labextension/static/remoteEntry" in name for name in shared)
    assert not [name for name in names if "node_modules" in name or name.startswith("tests/")]

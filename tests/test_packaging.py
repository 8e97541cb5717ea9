"""What a user installs: the wheel, with everything that Jupyter looks for in it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from tfgpu_kernel import __version__

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_what_jupyter_looks_for(tmp_path: Path) -> None:
    """Kernelspecs with logos, the built lab extension, the server's configuration; no sources of others."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        timeout=280,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    names = list(contents)
    shared = {name.partition(".data/data/")[2] for name in names}
    for kernel in ("tfgpu", "tfcpu"):
        for file in ("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"):
            assert f"share/jupyter/kernels/{kernel}/{file}" in shared
    assert "etc/jupyter/jupyter_server_config.d/tfgpu_kernel.json" in shared
    assert "share/jupyter/labextensions/@tfgpu/labextension/package.json" in shared
    assert any("labextension/static/remoteEntry" in name for name in shared)
    assert not [name for name in names if "node_modules" in name or name.startswith("tests/")]
    (entry_points,) = [text.decode() for name, text in contents.items() if name.endswith("/entry_points.txt")]
    assert "jupyter-tfgpu = tfgpu_kernel.cli:main" in entry_points
    assert "tfgpu-docker-provisioner = tfgpu_kernel.provisioner:TfgpuProvisioner" in entry_points
    assert not [name for name, content in contents.items() if str(ROOT).encode() in content]


def test_the_lab_extension_has_the_version_of_the_package() -> None:
    """Lab shows its extension's version, pip the package's: a user must not see two."""
    package = json.loads((ROOT / "labextension/package.json").read_text())
    assert package["version"] == __version__ == metadata.version("tfgpu-kernel")

"""What a lock says reaches tools that know nothing of this package: Docker, nbclient, and apt."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tfgpu_kernel.lock import normal

from .test_lock import CELLS, change, made, notebook, tfgpu  # noqa: F401

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

DRAWN = "import cowsay, random\nprint(cowsay.__version__, random.random(), hash('text'))"

PLAIN = """
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet nbclient
python3 - <<'END'
import nbclient, nbformat
notebook = nbformat.read("shared.ipynb", as_version=4)
notebook.metadata.kernelspec.name = "python3"
nbclient.execute(notebook)
nbformat.write(notebook, "/results/shared.ipynb")
END
"""


@pytest.fixture
def base(slim: str, tmp_path: Path) -> Iterator[str]:
    """Return the small image with this machine's certificates, so that pip in it reaches the index."""
    folder = tmp_path / "base"
    folder.mkdir()
    shutil.copyfile(ssl.get_default_verify_paths().cafile or "", folder / "ca.crt")
    (folder / "Dockerfile").write_text(f"FROM {slim}\nCOPY ca.crt /etc/ca.crt\nENV PIP_CERT=/etc/ca.crt\n")
    tag = "tfgpu-test/elsewhere:1"
    docker("build", "--quiet", "--tag", tag, str(folder))
    yield tag
    docker("rmi", "--force", tag)


def docker(*words: str) -> str:
    """Run docker; return what it printed."""
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("with_image", [False, True], ids=["by pip", "image in the bundle"])
def test_dockerfile_runs_the_notebook_without_us(
    notebook: Path, base: str, tmp_path: Path, with_image: bool  # noqa: F811
) -> None:
    """A bundle that is unzipped by hand: its Dockerfile builds, plain nbclient in it gives each locked output again."""
    made(notebook, *CELLS, DRAWN)
    tfgpu("add", notebook, "cowsay", "--image", base)
    tfgpu("lock", notebook)
    bundle = tmp_path / "shared.tfgpu.zip"
    tfgpu("export", notebook, *(["--image"] if with_image else []), "-o", bundle)
    folder = tmp_path / "unzipped"
    with zipfile.ZipFile(bundle) as zipped:
        zipped.extractall(folder)
    tags = ["notebook-of-the-test"]
    try:
        if with_image:
            told = docker("load", "--input", str(folder / "image.tar"))
            tags += [line.partition(": ")[2] for line in told.splitlines() if line.startswith("Loaded image: ")]
        docker("build", "--tag", tags[0], str(folder))
        docker("run", "--rm", tags[0])  # IPython alone runs it to its end
        results = tmp_path / "results"
        results.mkdir()
        (results / "run.sh").write_text(PLAIN)
        docker("run", "--rm", "--volume", f"{results}:/results", tags[0], "sh", "-e", "/results/run.sh")
    finally:
        for tag in tags:
            subprocess.run(["docker", "rmi", "--force", tag], check=False, capture_output=True)
    rerun = code_cells(results / "shared.ipynb")
    locked = json.loads(notebook.read_text())["metadata"]["tfgpu"]["cells"]
    for number, (cell, known) in enumerate(zip(rerun, locked, strict=True), 1):
        assert "unrepeatable" in known or normal.digest(cell["outputs"]) == known["outputs"], (number, cell["outputs"])


def code_cells(path: Path) -> list[Any]:
    """Return a notebook's code cells."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_packages_of_the_distribution_are_locked(notebook: Path) -> None:  # noqa: F811
    """What apt adds by the kernel's settings is locked by its version, asked for in the consent, and installed."""
    made(notebook, "!tree --version")
    tfgpu("lock", notebook, "--system-packages", "tree")
    lock = json.loads(notebook.read_text())["metadata"]["tfgpu"]
    [package] = lock["packages"]["system"]
    assert package.startswith("tree=")
    assert "Reproduced: bit-identical." in tfgpu("verify", notebook, "--least", "identical")
    # As on another machine, where the image that was made here is not.
    change(notebook, lambda raw: raw["metadata"]["tfgpu"]["packages"].pop("layers"))
    said = tfgpu("verify", notebook, code=1)
    assert f"these packages of its distribution are installed into it: {package}" in said
    said = tfgpu("verify", notebook, "--yes", "--least", "identical")
    assert f"Adding {package} to" in said
    assert "Reproduced: bit-identical." in said
    change(notebook, lambda raw: raw["metadata"]["tfgpu"]["packages"].update(system=["tree=0:0-1"]))
    assert "tree" in tfgpu("verify", notebook, "--yes", code=1)
    assert os.listdir(notebook.parent)

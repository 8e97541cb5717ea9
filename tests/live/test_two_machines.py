"""What is locked on one machine comes out again on another, with a registry between them or with none."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.doubles import bridge, engine
from tests.images import recipes, registry
from tfgpu_kernel.runfolder import cache_folder

from .conftest import install
from .test_lock import CELLS, made

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/mnist_mlp.ipynb"


@dataclass(frozen=True)
class Machine:
    """A user's folders, and the engine they use."""

    folder: Path
    host: str

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {
            "DOCKER_HOST": self.host,
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "run"),
        }

    @property
    def datasets(self) -> Path:
        return self.folder / "cache/tfgpu/keras-datasets"

    def tfgpu(self, *words: object, code: int = 0) -> str:
        """Run a verb on this machine; return what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "tfgpu_kernel.cli", *map(str, words)], env=self.env, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def docker(self, *words: str) -> str:
        """Run docker on this machine's engine."""
        return subprocess.run(["docker", *words], env=self.env, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def here(tmp_path: Path, kernels: Path) -> Machine:
    """Return the author's machine: the tests' own engine."""
    (tmp_path / "here").mkdir()
    return Machine(tmp_path / "here", os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Machine]:
    """Return another machine: its engine has an empty data root."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd")
    (tmp_path / "there").mkdir()
    with bridge.bridged() as name, engine.running({}, bridge=name) as daemon:
        yield Machine(tmp_path / "there", daemon.host)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[registry.Registry]:
    """Run a registry on loopback."""
    (tmp_path / "registry").mkdir()
    try:
        with registry.running(tmp_path / "registry") as server:
            yield server
    except recipes.RecipeUnavailable as why:
        pytest.skip(str(why))


def pushed(image: str, server: registry.Registry) -> str:
    """Put an image into the registry, and return the name under which this engine then has it with its digest."""
    registry.push(image, image, server)
    reference = f"{server.address}/{image}"
    subprocess.run(["docker", "pull", "--quiet", reference], check=True, capture_output=True)
    return reference


def bind_datasets(machine: Machine) -> None:
    """Give a machine MNIST, as make mnist does."""
    machine.datasets.mkdir(parents=True, exist_ok=True)
    source = cache_folder() / "keras-datasets/mnist.npz"
    if not source.is_file():
        pytest.skip("needs MNIST: make mnist")
    shutil.copyfile(source, machine.datasets / "mnist.npz")
    os.utime(machine.datasets / "mnist.npz", (1, 1))


def graded(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text())
    return told


@pytest.mark.nightly
def test_pulled_by_digest(here: Machine, there: Machine, server: registry.Registry, workspace: Path) -> None:
    """The other machine pulls the image by its digest, also when the tag has moved on, and asks first."""
    reference = pushed(recipes.ensure("slim"), server)
    (workspace / "numbers.csv").write_text("1,2,3\n4,5,6\n")
    notebook = made(workspace / "shared.ipynb", *CELLS)
    try:
        here.tfgpu("lock", notebook, "--image", reference)
        lock = json.loads(notebook.read_text())["metadata"]["tfgpu"]
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", lock["image"]["digest"])
        registry.push(recipes.ensure("base"), reference.partition("/")[2], server)  # another image behind the tag
        asked = server.manifests
        assert "exactly " + lock["image"]["digest"] in there.tfgpu("verify", notebook, code=1)
        assert server.manifests == asked, "nothing may be fetched before the consent"
        assert there.docker("images", "--quiet") == ""
        said = there.tfgpu("verify", notebook, "--yes", "--least", "identical")
        assert "Reproduced: bit-identical." in said
        assert there.docker("images", "--quiet", "--filter", f"reference={server.address}/*/*") != ""
    finally:
        subprocess.run(["docker", "rmi", reference], check=False, capture_output=True)


@pytest.mark.nightly
def test_bundle_without_registry_or_network(here: Machine, there: Machine, workspace: Path) -> None:
    """A bundle with the image takes a notebook, its data and a kept package to a machine that can't fetch any."""
    (workspace / "numbers.csv").write_text("1,2,3\n4,5,6\n")
    notebook = made(workspace / "shared.ipynb", *CELLS, "import cowsay\nprint(cowsay.__version__)")
    here.tfgpu("add", notebook, "cowsay")
    here.tfgpu("lock", notebook)
    bundle = workspace / "shared.tfgpu.zip"
    here.tfgpu("export", notebook, "--image", "-o", bundle)
    target = workspace / "received"
    there.tfgpu("import", bundle, "-o", target, "--yes")
    nothing_fetched = ("--network", "none", "--pull", "never")
    said = there.tfgpu("verify", target / "shared.ipynb", "--least", "identical", *nothing_fetched)
    assert "Reproduced: bit-identical." in said
    assert "Adding" not in said


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("way", ["registry", "bundle"])
@pytest.mark.parametrize("image", ["tf:py311", "frozen:py36"])
def test_mnist_comes_out_again(
    here: Machine, there: Machine, tmp_path: Path, workspace: Path, kernels: Path, image: str, way: str,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """The MNIST example: trained weights bit-identical and the same accuracy, on today's and on 2020's TensorFlow."""
    try:
        reference = recipes.ensure(image)
    except recipes.RecipeUnavailable as why:
        pytest.skip(str(why))
    if way == "registry":
        reference = pushed(reference, request.getfixturevalue("server"))
    install(kernels.parents[1], "tfgpu", "--image", reference, "--gpus", "none")
    notebook = Path(shutil.copy(EXAMPLE, workspace / "mnist.ipynb"))
    bind_datasets(here)
    try:
        here.tfgpu("lock", notebook)
        received = notebook
        if way == "bundle":
            here.tfgpu("export", notebook, "--image", "-o", workspace / "mnist.tfgpu.zip")
            there.tfgpu("import", workspace / "mnist.tfgpu.zip", "-o", workspace / "received", "--yes")
            assert (there.datasets / "mnist.npz").is_file()
            received = workspace / "received/mnist.ipynb"
        else:
            bind_datasets(there)
        report = tmp_path / "report.json"
        further = ("--network", "none", "--pull", "never") if way == "bundle" else ()
        said = there.tfgpu("verify", received, "--yes", "--json", report, "--least", "identical",
                           "-o", tmp_path / "rerun.ipynb", *further)  # fmt: skip
        print(said)
    finally:
        if way == "registry":
            subprocess.run(["docker", "rmi", reference], check=False, capture_output=True)
    told = graded(report)
    assert told["reproduced"]
    counted = {cell["number"]: cell["grade"] for cell in told["cells"] if cell["counts"]}
    assert set(counted.values()) == {"bit-identical"}
    for pattern in (r"fingerprint of the weights: [0-9a-f]{16}", r"test accuracy: 0\.9\d+"):
        one, two = (printed(file, pattern) for file in (received, tmp_path / "rerun.ipynb"))
        assert one == two != ""


def printed(file: Path, pattern: str) -> str:
    """Return what a notebook's outputs have of a pattern."""
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    texts = (output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    return next((match[0] for text in texts if (match := re.search(pattern, text))), "")

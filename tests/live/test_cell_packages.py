"""What cells install is the notebook's, comes after the image's packages, and is there after a restart."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from tests.images import recipes
from tfgpu_kernel import additions

from .conftest import install
from .driving import Driven, kernel


def wheel(folder: Path, name: str, *requires: str) -> str:
    """Make a wheel with one module that says ``here``; return its file name."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    script = f"[console_scripts]\n{name}-says = {name}:say\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "def say():\n    print('here')\n")
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", script)
        archive.writestr(f"{info}/RECORD", "")
    return file.name


def named(notebook: Path) -> dict[str, dict[str, str]]:
    """Return the start's arguments for a notebook's kernel, as Jupyter's server gives them."""
    return {"env": {**os.environ, "JPY_SESSION_NAME": str(notebook)}}


@pytest.fixture(autouse=True)
def ordinary(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels run as an ordinary user, also where the tests are root, and keep what they install in the test."""
    monkeypatch.setattr(additions, "root", lambda uid: tmp_path / "additions")
    if os.geteuid() == 0:
        os.chown(workspace, 1000, 1000)
        for folder in workspace.parents:
            if folder != Path("/"):  # pytest's folders are for root alone
                folder.chmod(folder.stat().st_mode | 0o011)


@pytest.fixture(
    params=[
        "venv",
        pytest.param("tf:py311", marks=pytest.mark.nightly),
        pytest.param("frozen:py36", marks=pytest.mark.nightly),
    ]
)
def image(request: pytest.FixtureRequest, kernels: Path) -> str:
    """Install the kernelspec for an image with numpy: in a venv, in Debian's Python, in a Python of its own."""
    try:
        reference = recipes.ensure(request.param)
    except recipes.RecipeUnavailable as why:
        pytest.skip(str(why))
    install(kernels.parents[1], "tfgpu", "--image", reference, "--gpus", "none")
    return reference


async def numpy(driven: Driven) -> str:
    """Return version and place of the numpy that a new process gets."""
    return await driven.run("!python3 -c 'import numpy; print(numpy.__version__, numpy.__file__)'")


@pytest.mark.timeout(300)
async def test_what_a_cell_installs_is_the_notebooks(image: str, workspace: Path) -> None:
    """``%pip install`` works at once and after a restart, in cells and in what they start; no other notebook has it."""
    file = wheel(workspace, "harmless")
    one, other = workspace / "one.ipynb", workspace / "other.ipynb"
    async with kernel(workspace, **named(one)) as driven:
        assert "uid=0" not in await driven.run("!id")
        before = await numpy(driven)
        assert "Successfully installed harmless-1.0" in await driven.run(f"%pip install --no-index --user ./{file}")
        assert await driven.run("import harmless; harmless.say()") == "here\n"
        assert "Successfully installed harmless-1.0" in await driven.run(f"!pip install --no-index -t aside ./{file}")
        assert "harmless.py" in await driven.run("!ls aside")
        await driven.restart()
        assert await driven.run("import harmless; harmless.say()") == "here\n"
        assert "here" in await driven.run("!harmless-says")
        assert "here" in await driven.run("!python3 -c 'import harmless; harmless.say()'")
        assert "harmless" in await driven.run("!pip list --format=freeze")
        assert await numpy(driven) == before
    async with kernel(workspace, **named(other)) as driven:
        assert "ModuleNotFoundError" in await driven.run("import harmless")
    async with kernel(workspace, **named(one)) as driven:
        assert await driven.run("import harmless; harmless.say()") == "here\n"
        assert "Successfully uninstalled harmless" in await driven.run("!pip uninstall --yes harmless")


@pytest.mark.timeout(300)
async def test_the_images_numpy_stays(image: str, workspace: Path) -> None:
    """A package that wants another numpy is refused, or put in with a warning; numpy stays, and that is told."""
    file = wheel(workspace, "eager", "numpy<1.0")
    async with kernel(workspace, **named(workspace / "one.ipynb")) as driven:
        before = await numpy(driven)
        for command in ("%pip install 'numpy<1.0'", f"!pip install ./{file}"):
            told = await driven.run(command)
            assert "tfgpu: the image's packages stay as they are, here numpy" in told, told
        told = await driven.run("!pip install --no-index numpy=0.9")
        assert "two equals signs: numpy==0.9" in told, told
        assert "Traceback" not in told
        await driven.run(f"!python3 -m pip install ./{file}")
        assert await numpy(driven) == before


async def test_without_a_notebook_it_lives_with_the_kernel(kernels: Path, workspace: Path) -> None:
    """A kernel of no notebook keeps what it installed through a restart, and leaves nothing for the next."""
    file = wheel(workspace, "harmless")
    async with kernel(workspace) as driven:
        await driven.run(f"%pip install --no-index ./{file}")
        await driven.restart()
        assert await driven.run("import harmless; harmless.say()") == "here\n"
    async with kernel(workspace) as driven:
        assert "ModuleNotFoundError" in await driven.run("import harmless")


async def test_an_environment_of_ones_own_is_left_alone(kernels: Path, workspace: Path) -> None:
    """In a venv that a cell makes, pip installs into that venv."""
    file = wheel(workspace, "harmless")
    async with kernel(workspace) as driven:
        await driven.run("!python3 -m venv --system-site-packages mine")
        told = await driven.run(f"!mine/bin/python -m pip install --no-index ./{file}")
        assert "Successfully installed" in told, told
        assert "/mine/" in await driven.run("!mine/bin/python -c 'import harmless; print(harmless.__file__)'")
        assert "ModuleNotFoundError" in await driven.run("import harmless")


async def test_the_hosts_settings_reach_the_kernel(kernels: Path, workspace: Path) -> None:
    """pip in a cell uses the host's index, proxy and certificates; the kernel can't change what it was lent."""
    async with kernel(workspace) as driven:
        assert "'/tfgpu/site/pip.conf'" in await driven.run("import os; print([os.environ['PIP_CONFIG_FILE']])")
        if "ca.crt" in await driven.run("!ls /tfgpu/site"):
            assert "Error" in await driven.run("open('/tfgpu/site/ca.crt', 'a')")
            assert "/tfgpu/site/ca.crt" in await driven.run("!echo $SSL_CERT_FILE")


async def test_what_is_not_there_is_told_with_how_to_get_it(kernels: Path, workspace: Path) -> None:
    """A missing module, a missing program and apt are each answered with one line; other errors with none."""
    async with kernel(workspace) as driven:
        assert "%pip install opencv-python-headless" in await driven.run("import cv2")
        assert "tfgpu:" not in await driven.run("import json.nothing")
        assert "tfgpu:" not in await driven.run("1 / 0")
        assert "system_packages" in await driven.run("!git clone x")
        assert "graphviz" in await driven.run("%%bash\ndot -V; true")
        assert "no sudo" in await driven.run("!sudo ls")
        assert "can't install here" in await driven.run("!apt-get install -y git")
        assert "tfgpu:" not in await driven.run("!ls")


async def test_nothing_planted_in_home_reaches_the_next(kernels: Path, workspace: Path) -> None:
    """A start-up file or a package that a kernel leaves in its home is gone with it."""
    plant = """
import pathlib, site
home = pathlib.Path.home()
for path in (home / ".ipython/profile_default/startup/evil.py", pathlib.Path(site.getusersitepackages()) / "evil.py"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("import builtins; builtins.evil = 1")
"""
    async with kernel(workspace) as driven:
        assert await driven.run(plant) == ""
    async with kernel(workspace) as driven:
        assert "NameError" in await driven.run("evil")
        assert "ModuleNotFoundError" in await driven.run("import evil")

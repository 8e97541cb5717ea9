"""Where cells' packages are kept on the host, and what is said of those that the image keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfgpu_kernel import additions
from tfgpu_kernel.boot import here, hints, pip_here


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def fresh(run: str, uid: int, gid: int) -> Path:
    """Make a kernel's unclaimed folder with a file in it."""
    place = additions.folder("image", "", run, uid)
    additions.prepare(place, uid, gid)
    (place / run).touch()
    return place


def test_each_notebook_and_image_has_its_own_folder() -> None:
    """Another notebook or another image means another folder; its parents are the server's alone."""
    uid, gid = os.geteuid(), os.getegid()
    places = {additions.folder(image, book, "r", uid) for image in ("a", "b") for book in ("/x.ipynb", "/y.ipynb", "")}
    assert len(places) == 5, "without a notebook the folder is the run folder's, whatever the image"
    place = additions.folder("a", "/x.ipynb", "r", uid)
    additions.prepare(place, uid, gid)
    additions.prepare(place, uid, gid)
    assert place.stat().st_mode & 0o777 == place.parent.stat().st_mode & 0o777 == 0o700


def test_claiming_brings_what_the_notebook_had() -> None:
    """A claimed folder is the notebook's from then on, under the same inode, with what was installed before."""
    uid, gid = os.geteuid(), os.getegid()
    own = additions.folder("image", "/x.ipynb", "", uid)
    for run in ("first", "second"):
        inode = fresh(run, uid, gid).stat().st_ino
        additions.claim("image", "/x.ipynb", run, uid, gid)
        assert own.stat().st_ino == inode, "a container has that very folder mounted"
    assert sorted(path.name for path in own.iterdir()) == ["first", "second"]
    assert list(additions.folder("image", "", "", uid).iterdir()) == []


def test_without_a_notebook_it_goes_with_the_run_folder() -> None:
    """What nobody claimed is removed with the kernel."""
    place = fresh("run", os.geteuid(), os.getegid())
    additions.forget("run")
    assert not place.exists()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("    The user requested (constraint) numpy==1.26.4\n", ["numpy 1.26.4"]),
        ("eager 1.0 has requirement numpy<1, but you'll have numpy 1.26.4 which is incompatible.", ["numpy 1.26.4"]),
        ("ERROR: No matching distribution found for ml_dtypes<0.1,==0.5.0", ["ml-dtypes 0.5.0"]),
        ("ERROR: No matching distribution found for nothing-of-that-name", []),
        ("Successfully installed seaborn-0.13", []),
    ],
)
def test_what_the_image_keeps_is_found_in_pips_words(text: str, kept: list[str]) -> None:
    """Both of pip's resolvers say what stands in the way, each in its own words."""
    assert pip_here.held(text, {"numpy": "1.26.4", "ml-dtypes": "0.5.0"}) == kept


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("numpy<1.0", ["numpy 1.26.4"]),
        ("NumPy==1.26.4", []),
        ("numpy", []),
        ("numpy[x]>=2", ["numpy 1.26.4"]),
        ("-U", []),
        ("numpy=1.26", []),
    ],
)
def test_another_version_asked_for_is_noticed(word: str, kept: list[str]) -> None:
    """pip before 20.3 takes what is there without a word, so we look ourselves."""
    assert pip_here.unmet(["install", word], {"numpy": "1.26.4"}) == kept


def test_condas_equals_sign_is_told_in_pips_way() -> None:
    """``numpy=1.26`` is conda's habit; what has an equals sign otherwise isn't meant."""
    assert pip_here.meant(["install", "numpy=1.26", "tqdm==4", "--index-url=x", "a[b]=2.*"]) == [
        "numpy==1.26",
        "a[b]==2.*",
    ]


@pytest.mark.parametrize(
    ("words", "prefix", "constraint"),
    [
        (("x",), here.FOLDER, here.CONSTRAINTS),
        (("-U", "x", "--timeout=3"), here.FOLDER, here.CONSTRAINTS),
        (("--target", "aside", "x"), "", ""),
        (("x", "-taside"), "", ""),
        (("--target=aside", "x"), "", ""),
        (("--prefix=aside", "x"), "", here.CONSTRAINTS),
        (("--root", "aside", "x"), "", here.CONSTRAINTS),
        (("--user", "x"), "", here.CONSTRAINTS),
    ],
)
def test_a_place_of_ones_own_for_pip(tmp_path: Path, words: tuple[str, ...], prefix: str, constraint: str) -> None:
    """pip knows one place at a time: the notebook's folder gives way to what the command itself names."""
    (tmp_path / "sitecustomize.py").write_text("from tfgpu_kernel.boot import here\nhere.follow()\n")
    say = "import os; print(os.environ.get('PIP_PREFIX', ''), os.environ.get('PIP_CONSTRAINT', ''), sep=',')"
    # As a program sees it that another child of the kernel's has started.
    env = {**os.environ, here.PREFIX: sys.prefix, "PYTHONPATH": str(tmp_path), "PIP_PREFIX": here.FOLDER}
    done = subprocess.run([sys.executable, "-c", say, *words], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{prefix},{constraint}\n"


def test_an_environment_without_pip(tmp_path: Path) -> None:
    """As uv makes them: the pip that Python itself brings serves; where it brings none, one line says what to do."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (tmp_path / "tfgpu_boot").symlink_to(Path(here.__file__).parent)
    command = [tmp_path / "venv/bin/python", "-m", "tfgpu_boot.pip_here", "--version"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pip ")
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tfgpu: this image has no pip")
    assert "Traceback" not in done.stderr


def test_hints_for_modules() -> None:
    """A module that isn't there has its package named; a part missing of one that is here has not."""
    assert "%pip install scikit-learn" in (hints.missing_module(ImportError("x", name="sklearn.linear_model")) or "")
    assert hints.missing_module(ImportError("x", name="json.nothing")) is None
    assert hints.missing_module(ImportError("cannot import name y")) is None
    assert hints.missing_module(ValueError("x")) is None

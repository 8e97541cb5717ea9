"""A notebook is locked, and what a rerun finds otherwise than it was recorded is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tfgpu_kernel.lock import consent, read

CELLS = (
    "import random, hashlib\nprint(random.random(), hash('text'))",
    "rows = [line.split(',') for line in open('numbers.csv')]\nprint(sum(int(one) for row in rows for one in row))",
    "import time\nprint('it took', time.perf_counter(), 'so far')",
    "print(1 / 3)",
)

Edit = Callable[[Any], None]


_locked: dict[str, bytes] = {}


@pytest.fixture
def notebook(workspace: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a notebook that was not run yet, with its data, and a user who has agreed to nothing."""
    monkeypatch.setenv("XDG_DATA_HOME", str(workspace.parent / "data"))
    (workspace / "numbers.csv").write_text("1,2,3\n4,5,6\n")
    return made(workspace / "shared.ipynb", *CELLS)


@pytest.fixture
def locked(notebook: Path) -> Path:
    """Return that notebook locked; it is run once for all tests, and its data is older than that run."""
    if not _locked:
        tfgpu("lock", notebook)
        _locked["notebook"] = notebook.read_bytes()
    notebook.write_bytes(_locked["notebook"])
    consent.give(read.check(json.loads(notebook.read_text())["metadata"]["tfgpu"]).lock)
    return notebook


def made(path: Path, *cells: str) -> Path:
    """Write a notebook of these cells."""
    new = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(text) for text in cells],  # type: ignore[no-untyped-call]
        metadata={"kernelspec": {"name": "tfgpu", "display_name": "TensorFlow", "language": "python"}},
    )
    nbformat.write(new, path)  # type: ignore[no-untyped-call]
    return path


def tfgpu(*words: object, code: int = 0) -> str:
    """Run a verb; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", *map(str, words)],
        check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def change(path: Path, edit: Edit) -> None:
    """Change a notebook's JSON."""
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))


def test_lock_and_verify(notebook: Path) -> None:
    """A locked notebook holds its environment and its data, and comes out bit-identical again."""
    said = tfgpu("lock", notebook)
    assert "Cell 3 may give other outputs at each run: it uses the clock" in said
    lock = json.loads(notebook.read_text())["metadata"]["tfgpu"]
    assert lock["image"]["reference"] == "tfgpu-test/slim"
    assert [file["name"] for file in lock["data"]] == ["numbers.csv"]
    assert "ipykernel" in lock["packages"]["installed"]
    nbformat.validate(nbformat.read(notebook, as_version=4))  # type: ignore[no-untyped-call]
    before = notebook.read_bytes()
    page, record = notebook.with_name("report.html"), notebook.with_name("report.json")
    said = tfgpu("verify", notebook, "--html", page, "--json", record, "--least", "identical")
    assert "Reproduced: bit-identical." in said
    assert notebook.read_bytes() == before
    told = json.loads(record.read_text())
    assert [cell["grade"] for cell in told["cells"] if cell["counts"]] == ["bit-identical"] * 3
    assert "Reproduced" in page.read_text()


def test_nothing_of_the_machine_is_in_the_lock(locked: Path) -> None:
    """The lock has no host name, user name or path of the author's machine."""
    text = json.dumps(json.loads(locked.read_text())["metadata"]["tfgpu"])
    assert str(locked.parent) not in text
    assert "/" not in text.replace("tfgpu-test/slim", "")
    assert Path("/etc/hostname").read_text().strip() not in text


def test_sabotage_of_the_notebook_is_named(locked: Path) -> None:
    """An edited cell, edited outputs and another package are each told, and nothing is called reproduced."""

    def sabotage(raw: Any) -> None:
        raw["cells"][0]["outputs"][0]["text"] = "0.5 42\n"
        raw["cells"][3]["source"] = "print(2 / 3)"
        raw["metadata"]["tfgpu"]["packages"]["installed"]["ipykernel"] = "1.2.3"

    change(locked, sabotage)
    said = tfgpu("verify", locked, code=3)
    assert "The outputs of cell 1 in the file are not those that were locked" in said
    assert "Cell 4 was edited" in said
    assert "ipykernel 1.2.3 →" in said
    assert "0.3333333333333333 became 0.6666666666666666" in said


def test_other_hardware_is_named(locked: Path) -> None:
    """Another CPU, and another number of processors, are told even where all results agree."""

    def moved(raw: Any) -> None:
        raw["metadata"]["tfgpu"]["recorded"].update(cpu="Another CPU", threads=999)

    change(locked, moved)
    said = tfgpu("verify", locked)
    assert "The CPU is another: Another CPU when it was locked" in said
    assert "The number of processors for the kernel is another: 999" in said
    assert "Reproduced: bit-identical." in said


def test_sabotage_of_what_is_around_it_is_named(locked: Path) -> None:
    """Changed data, and a variable that is set otherwise here, are told."""
    said = tfgpu("verify", locked, "--env", "TF_ENABLE_ONEDNN_OPTS=0")
    assert 'TF_ENABLE_ONEDNN_OPTS was not set when the notebook was locked, and is "0" here' in said
    locked.with_name("numbers.csv").write_text("1,2,3\n4,5,7\n")
    said = tfgpu("verify", locked, code=3)
    assert "numbers.csv is not the file that was locked" in said
    assert "21 became 22" in said


def test_another_image_behind_the_tag_is_named(notebook: Path, slim: str) -> None:
    """A tag that points to another image by now stops the start."""
    tag = "tfgpu-test/moved:1"
    subprocess.run(["docker", "tag", slim, tag], check=True)
    try:
        tfgpu("lock", notebook, "--image", tag)
        # No image of the old layers may be left, else that one is found.
        change(notebook, lambda raw: raw["metadata"]["tfgpu"]["image"]["layers"].append(f"sha256:{'0' * 64}"))
        said = tfgpu("verify", notebook, "--yes", code=1)
        assert f"Another image is behind the name {tag}" in said
    finally:
        subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)


def test_later_version_is_refused(locked: Path) -> None:
    """A lock of a later version is not guessed at."""
    change(locked, lambda raw: raw["metadata"]["tfgpu"].update(version=2))
    assert "locked by a later tfgpu-kernel" in tfgpu("verify", locked, code=1)


def test_failing_cell_is_not_locked(notebook: Path) -> None:
    """A notebook that doesn't run from top to bottom keeps its old file."""
    change(notebook, lambda raw: raw["cells"][1].update(source="raise ValueError('no')"))
    before = notebook.read_bytes()
    assert "Cell 2 failed in a clean kernel: ValueError: no" in tfgpu("lock", notebook, code=1)
    assert notebook.read_bytes() == before


def test_what_is_saved_meanwhile_is_not_written_over(workspace: Path, kernels: Path) -> None:
    """A notebook that is edited while it is locked stays as it was saved last; what ran lies beside it, locked."""
    save = "text = open('a.ipynb').read()\nopen('a.ipynb', 'w').write(text.replace('first', 'second'))"
    notebook = made(workspace / "a.ipynb", save, "print('first')")
    said = tfgpu("lock", notebook, code=1)
    assert f"{notebook} was changed while it ran" in said
    assert str(workspace / "a.locked.ipynb") in said
    assert "print('second')" in notebook.read_text()
    assert "tfgpu" not in json.loads(notebook.read_text())["metadata"]
    assert "tfgpu" in json.loads((workspace / "a.locked.ipynb").read_text())["metadata"]


def test_an_interrupt_ends_the_run_as_a_whole(workspace: Path, kernels: Path) -> None:
    """Ctrl-C in a cell is no death of the kernel: it is told as what it is, and nothing is written or left behind."""
    notebook = made(workspace / "a.ipynb", "import time; time.sleep(60)")
    before = notebook.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-m", "tfgpu_kernel.cli", "lock", str(notebook)], stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert any("Cell 1 of 1" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert (said.strip(), running.returncode) == ("Interrupted.", 130)
    assert notebook.read_bytes() == before


def test_nothing_starts_without_consent(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's lock is followed by execute and by any Jupyter program only after a consent, kept by digest."""
    monkeypatch.setenv("XDG_DATA_HOME", str(locked.parent.parent / "receiver"))
    said = tfgpu("execute", locked, code=1)
    assert "You have not agreed" in said
    assert "you would agree that" in said
    assert "Creating the container" not in said
    assert "Creating the container" in tfgpu("execute", locked, "--yes")
    assert "you would agree that" not in tfgpu("execute", locked)


def test_mounts_and_privileges_are_ignored_and_told(locked: Path) -> None:
    """What no notebook decides about changes nothing, and is told."""
    more = {"mounts": ["/:/host:rw"], "privileged": True, "runtime": "runc", "user": "0:0"}
    change(locked, lambda raw: raw["metadata"]["tfgpu"].update(more))
    said = tfgpu("verify", locked)
    for key in more:
        assert f"'{key}'" in said
    assert "Reproduced" in said


@pytest.mark.nightly
def test_what_cells_install_is_neither_locked_nor_verified(locked: Path) -> None:
    """A package that a cell installed stays with the notebook's own kernels; a rerun doesn't have it."""
    change(locked, lambda raw: raw["cells"][3].update(source="%pip install cowsay"))
    tfgpu("execute", locked)
    change(locked, lambda raw: raw["cells"][3].update(source="import cowsay"))
    tfgpu("execute", locked)
    assert "No module named 'cowsay'" in tfgpu("lock", locked, code=1)


@pytest.mark.nightly
def test_packages_are_kept_as_people_work(notebook: Path) -> None:
    """A package that is added is there at the next start, locked by hash; one that is removed is gone."""
    change(notebook, lambda raw: raw["cells"][3].update(source="import cowsay\nprint(cowsay.__version__)"))
    assert "No module named 'cowsay'" in tfgpu("lock", notebook, code=1)
    said = tfgpu("add", notebook, "cowsay")
    assert "Added: cowsay" in said
    [package] = json.loads(notebook.read_text())["metadata"]["tfgpu"]["packages"]["added"]
    assert (package["name"], len(package["sha256"][0])) == ("cowsay", 64)
    tfgpu("execute", notebook)
    tfgpu("lock", notebook)
    assert "Reproduced: bit-identical." in tfgpu("verify", notebook)

    def tampered(raw: Any) -> None:
        raw["metadata"]["tfgpu"]["packages"]["added"][0]["sha256"] = ["0" * 64]
        raw["metadata"]["tfgpu"]["packages"]["layers"] = []

    kept = notebook.read_bytes()
    change(notebook, tampered)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in tfgpu("verify", notebook, "--yes", code=1)
    notebook.write_bytes(kept)
    assert "Taken away: cowsay" in tfgpu("remove", notebook, "cowsay")
    assert "No module named 'cowsay'" in tfgpu("execute", notebook, code=1)

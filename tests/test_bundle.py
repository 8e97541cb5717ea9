"""A bundle is unpacked only where it is, to the byte, what was exported; nothing leads out of the folder."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tfgpu_kernel import bundle, scratch
from tfgpu_kernel.errors import (
    BundleRefused,
    ConfigError,
    EngineNotAnswering,
    ImageUnusable,
    LockInvalid,
    LockTooNew,
    NoSpace,
    TfgpuError,
)
from tfgpu_kernel.image import archive
from tfgpu_kernel.lock import elsewhere, read
from tfgpu_kernel.progress import unheard

from .test_lock_read import EVIL_TEXTS, GOOD

DATA = b"1,2,3\n4,5,6\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own data sets out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Export a notebook with a data file in a folder of its own."""
    sha256 = hashlib.sha256(DATA).hexdigest()
    known = {"place": "notebook", "name": "data/train.csv", "sha256": sha256, "size_bytes": len(DATA)}
    lock = {**GOOD, "data": [known]}
    folder = tmp_path / "author"
    (folder / "data").mkdir(parents=True)
    (folder / "data/train.csv").write_bytes(DATA)
    notebook = folder / "shared.ipynb"
    notebook.write_text(json.dumps({"cells": [], "metadata": {"tfgpu": lock}, "nbformat": 4, "nbformat_minor": 5}))
    target = tmp_path / "shared.tfgpu.zip"
    asyncio.run(bundle.export(notebook, read.check(lock).lock, target, None, unheard))
    return target


def unpacked(path: Path, folder: Path) -> Path:
    return asyncio.run(bundle.unpack(bundle.look(path), folder, None, unheard))


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None], **kind: Any) -> Path:
    """Write the bundle anew with other entries."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    change(entries)
    target = path.with_name("evil.zip")
    with zipfile.ZipFile(target, "w", **kind) as new:
        for name, content in entries.items():
            new.writestr(zipfile.ZipInfo(name), content, compress_type=kind.get("compression"))
    return target


def relisted(entries: dict[str, bytes], name: str, content: bytes) -> None:
    """Put an entry in, and into the list, as who wants to deceive would."""
    entries[name] = content
    listed = json.loads(entries[bundle.LIST])
    listed["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    entries[bundle.LIST] = json.dumps(listed).encode()


def test_round_trip(exported: Path, tmp_path: Path) -> None:
    """What arrives is what was exported; a second import changes nothing, a file in the way stays."""
    folder = tmp_path / "here"
    notebook = unpacked(exported, folder)
    assert notebook == folder / "shared.ipynb"
    assert (folder / "data/train.csv").read_bytes() == DATA
    assert sorted(os.listdir(folder)) == ["data", "shared.ipynb"]
    unpacked(exported, folder)
    (folder / "data/train.csv").unlink()
    (folder / "data/train.csv").write_text("mine")
    with pytest.raises(BundleRefused, match="another file"):
        unpacked(exported, folder)
    assert (folder / "data/train.csv").read_text() == "mine"


def test_work_is_done_where_a_sweep_finds_it(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle is made, and unpacked, in a folder beside its place; killed there, a sweep removes that folder."""
    left = []

    def killed(*_: object) -> None:
        for path in Path(tempfile.gettempdir()).glob("tfgpu-scratch-*/beside"):
            if path.read_text().startswith(str(tmp_path)):
                left.append(Path(path.read_text()))
                (path.parent / "owner").write_text("boot/1/1/1")
        assert left[-1].is_dir()
        scratch.sweep()
        assert not left[-1].exists()
        raise RuntimeError

    monkeypatch.setattr(bundle, "_extract", killed)
    with pytest.raises(RuntimeError):
        unpacked(exported, tmp_path / "reader")
    monkeypatch.setattr(bundle, "_write", killed)
    notebook = tmp_path / "author/shared.ipynb"
    lock = read.check(json.loads(notebook.read_text())["metadata"]["tfgpu"]).lock
    with pytest.raises(RuntimeError):
        asyncio.run(bundle.export(notebook, lock, tmp_path / "again.zip", None, unheard))
    assert [path.parent for path in left] == [tmp_path / "reader", tmp_path]


def test_changed_data_is_not_exported(exported: Path, tmp_path: Path) -> None:
    """A bundle never has other data than those that were locked."""
    (tmp_path / "author/data/train.csv").write_text("other")
    notebook = tmp_path / "author/shared.ipynb"
    found = read.find(notebook)
    assert found is not None
    with pytest.raises(ConfigError, match=r"train\.csv is changed"):
        asyncio.run(bundle.export(notebook, found.lock, tmp_path / "again.zip", None, unheard))
    assert not (tmp_path / "again.zip").exists()


@pytest.mark.parametrize("name", ["notebook/shared.ipynb", "notebook/data/train.csv", "Dockerfile"])
def test_tampered_entries_are_noticed(exported: Path, tmp_path: Path, name: str) -> None:
    """An entry that was changed on the way is named, also one of the same length."""

    def change(entries: dict[str, bytes]) -> None:
        entries[name] = entries[name].replace(b"2", b"3", 1)

    with pytest.raises(BundleRefused) as refused:
        unpacked(rewritten(exported, change), tmp_path / "here")
    assert name in str(refused.value)
    assert not list((tmp_path / "here").glob("*")) if (tmp_path / "here").exists() else True


def test_data_must_be_those_of_the_lock(exported: Path) -> None:
    """Data exchanged together with the list are noticed by the lock."""
    evil = rewritten(exported, lambda entries: relisted(entries, "notebook/data/train.csv", b"9,9,9\n9,9,9\n"))
    with pytest.raises(BundleRefused, match="not the one that was locked") as refused:
        bundle.look(evil)
    assert refused.value.remedy


def test_bombs_are_refused(exported: Path, tmp_path: Path) -> None:
    """Compressed entries are refused, whatever they hold, and so are overlapping ones and links."""
    evil = rewritten(exported, lambda entries: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleRefused, match=r"(?s)compressed"):
        bundle.look(evil)
    link = tmp_path / "link.zip"
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(link, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == "Dockerfile":
                info.external_attr = 0o120777 << 16
            new.writestr(info, content)
    with pytest.raises(BundleRefused, match=r"(?s)link"):
        bundle.look(link)
    many = rewritten(exported, lambda entries: entries.update({f"x{n}": b"" for n in range(bundle.MAX_ENTRIES)}))
    with pytest.raises(BundleRefused, match=r"(?s)entries"):
        bundle.look(many)


def test_link_in_the_folder_leads_nowhere(exported: Path, tmp_path: Path) -> None:
    """A link that lies in the target folder already doesn't carry files out of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/data").symlink_to(outside)
    with pytest.raises(BundleRefused, match=r"(?s)outside"):
        unpacked(exported, tmp_path / "here")
    assert os.listdir(outside) == []


NAMES = some.sampled_from(
    [*EVIL_TEXTS, "/abs", "../up", "notebook/../../up", "notebook//x", "C:\\x", "notebook/data\\..\\x", "a/./b",
     "keras-datasets/../../x", "keras-datasets/evil.npz", "notebook/other.csv", ".ssh/authorized_keys", "NOTEBOOK/X",
     "notebook/Shared.ipynb", "image.tar/x", "dockerfile", "notebook/data", "x\ty"]
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, content=some.binary(max_size=64), listed=some.booleans())
def test_strange_entries_get_nowhere(
    exported: Path, tmp_path: Path, name: str, content: bytes, listed: bool
) -> None:
    """An entry more, whatever its name, listed or not: the bundle is refused, and nothing is written anywhere."""

    def change(entries: dict[str, bytes]) -> None:
        if listed:
            relisted(entries, name, content)
        else:
            entries[name] = content

    before = sorted(str(path) for path in tmp_path.rglob("*"))
    try:
        evil = rewritten(exported, change)
    except (ValueError, UnicodeError):
        return  # a name that no zip file can have
    with pytest.raises((BundleRefused, LockInvalid)) as refused:
        unpacked(evil, tmp_path / "here")
    assert refused.value.remedy
    evil.unlink()
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "listed",
    [b"", b"[]", b"{}", b'{"version": 1}', b'{"version": 1, "notebook": "../x.ipynb", "files": {}}', b"\xff",
     b"[" * 99999],
    ids=range(7),
)  # fmt: skip
def test_broken_lists_are_refused(exported: Path, listed: bytes) -> None:
    """A list that is none is refused, never followed."""
    with pytest.raises(BundleRefused):
        bundle.look(rewritten(exported, lambda entries: entries.update({bundle.LIST: listed})))


def test_later_versions_are_told(exported: Path) -> None:
    """A bundle, or a lock in it, of a later version is told from a broken one."""

    def later(entries: dict[str, bytes]) -> None:
        entries[bundle.LIST] = entries[bundle.LIST].replace(b'"version": 1', b'"version": 2')

    with pytest.raises(BundleRefused, match="later tfgpu-kernel"):
        bundle.look(rewritten(exported, later))

    def later_lock(entries: dict[str, bytes]) -> None:
        text = entries["notebook/shared.ipynb"].replace(b'"version": 1', b'"version": 2', 1)
        relisted(entries, "notebook/shared.ipynb", text)

    with pytest.raises(LockTooNew):
        bundle.look(rewritten(exported, later_lock))


def test_what_is_no_bundle(tmp_path: Path) -> None:
    """Neither a missing file nor any other is taken for a bundle."""
    with pytest.raises(ConfigError):
        bundle.look(tmp_path / "absent.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(BundleRefused):
        bundle.look(tmp_path / "text.zip")


def test_files_for_other_tools() -> None:
    """Dockerfile, devcontainer.json and requirements say what the lock says."""
    lock = read.check(GOOD).lock
    text = elsewhere.dockerfile(lock, "shared.ipynb")
    assert f"FROM somebody/image@sha256:{'3' * 64}" in text
    assert "--require-hashes" in text
    assert '"shared.ipynb"' in text
    assert elsewhere.requirements(lock) == f"seaborn==0.13.2 --hash=sha256:{'2' * 64}\n"
    made = json.loads(elsewhere.devcontainer(lock))
    assert made["hostRequirements"] == {"gpu": {"memory": "8gb"}}
    assert made["containerEnv"]["PYTHONHASHSEED"] == "0"
    loaded = elsewhere.dockerfile(lock, "shared.ipynb", "tfgpu-locked/x:completed")
    assert "pip install" not in loaded


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, ConfigError)]
)
def test_this_machines_troubles_are_not_the_bundles(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[TfgpuError]
) -> None:
    """A full disk, or one that may not be written, is told as that: to carry the bundle over again would not help."""

    def failing(*_: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bundle, "_copied", failing)
    with pytest.raises(kind, match="unpack shared") as told:
        unpacked(exported, tmp_path / "here")
    assert "another folder" in told.value.remedy
    assert os.listdir(tmp_path / "here") == []


def test_what_cannot_be_read_is_not_called_untrusted(tmp_path: Path) -> None:
    """A folder in a bundle's place is told as that."""
    with pytest.raises(ConfigError, match="directory"):
        bundle.look(tmp_path)


@pytest.mark.parametrize("error", [NoSpace, EngineNotAnswering])
def test_the_engines_troubles_are_not_the_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[TfgpuError]
) -> None:
    """Where the engine can't take a sound image, the engine's own error comes out; a changed image is the bundle's."""
    lock = read.check({**GOOD, "packages": {"kept": [], "added": [], "installed": {}}}).lock
    monkeypatch.setattr(archive, "contents", lambda _: {"tfgpu-locked/x:image": lock.image.layers})
    raised: list[TfgpuError] = [error("Why.", "do this."), ImageUnusable("Why.", "do this.")]

    async def failing(*_: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr(archive, "load", failing)
    for kind in (error, BundleRefused):
        with pytest.raises(kind):
            asyncio.run(bundle._load(lock, tmp_path / "image.tar", None, unheard))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Week 3: CNNs.ipynb", "a\\b.ipynb", "notes.json"])
def test_what_no_import_takes_is_not_exported(exported: Path, tmp_path: Path, name: str) -> None:
    """A name that each import refuses is told where the notebook can still be renamed."""
    notebook = (tmp_path / "author/shared.ipynb").rename(tmp_path / "author" / name)
    found = read.find(notebook)
    assert found is not None
    with pytest.raises(ConfigError, match="can't be in a bundle") as told:
        asyncio.run(bundle.export(notebook, found.lock, tmp_path / "again.zip", None, unheard))
    assert "rename the notebook" in told.value.remedy
    assert not (tmp_path / "again.zip").exists()


def test_data_that_no_import_takes_are_not_exported(exported: Path, tmp_path: Path) -> None:
    """Nor are two data files that a file system without upper and lower case takes for one."""
    notebook = tmp_path / "author/shared.ipynb"
    listed = []
    for name in ("train.csv", "Train.csv"):
        (notebook.parent / name).write_bytes(DATA)
        sha256 = hashlib.sha256(DATA).hexdigest()
        listed.append({"place": "notebook", "name": name, "sha256": sha256, "size_bytes": len(DATA)})
    lock = read.check({**GOOD, "data": listed}).lock
    with pytest.raises(ConfigError, match=r"'Train.csv', can't be in a bundle"):
        asyncio.run(bundle.export(notebook, lock, tmp_path / "again.zip", None, unheard))

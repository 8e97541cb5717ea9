"""What a stranger's notebook says is bounded, checked to the letter, and starts nothing before a consent."""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.errors import ConsentNeeded, LockInvalid, LockTooNew
from tfgpu_kernel.lock import consent, read, start
from tfgpu_kernel.lock.record import from_json, to_json

LAYER = f"sha256:{'1' * 64}"
HASH = "2" * 64
GOOD: dict[str, Any] = {
    "version": 1,
    "image": {
        "reference": "somebody/image:1", "digest": f"sha256:{'3' * 64}", "layers": [LAYER], "os": "linux",
        "architecture": "amd64",
    },
    "packages": {
        "kept": ["seaborn"],
        "added": [{"name": "seaborn", "version": "0.13.2", "sha256": [HASH]}],
        "system": ["git=1:2.39.5-0+deb12u2"],
        "installed": {"seaborn": "0.13.2"},
    },
    "software": {"python": "3.11.2", "tensorflow": "2.21.0"},
    "gpu": {"need": "required", "compute_capability": [8, 0], "memory_bytes": 8000000000},
    "environment": {"PYTHONHASHSEED": "0", "TZ": "Europe/Berlin", "OMP_NUM_THREADS": None},
    "repeatable": {"seed": 0, "op_determinism": True},
    "tolerance": {"relative": 1e-5},
    "data": [{"place": "notebook", "name": "data/train.csv", "sha256": HASH, "size_bytes": 12}],
    "recorded": {"cpu": "AMD EPYC", "threads": 2, "gpus": [{"name": "NVIDIA A100"}], "driver": "550.54.15"},
    "cells": [{"source": HASH, "outputs": HASH, "unrepeatable": ["it uses the clock"]}],
}  # fmt: skip

EVIL_TEXTS = (
    "--privileged", "-v/:/host", "; rm -rf /", "$(id)", "`id`", "a b",
    "x\n--index-url=http://evil", "x --hash=sha256:0",
    "git+https://evil/x", "../../etc/passwd", "/etc/passwd", "..", "a/../../b", "a\\b", "\x00", "x\n", "‮gnp.x",
    "http://evil/x.whl", "x@file:///etc", "*", "x;y", "'", '"', "%(x)s", "{0}", "~/.ssh/id_rsa", "a" * 10000,
)  # fmt: skip
EVIL: some.SearchStrategy[Any] = some.one_of(
    some.sampled_from(EVIL_TEXTS),
    some.none(),
    some.booleans(),
    some.integers(min_value=-(10**30), max_value=-1),
    some.floats(),
    some.lists(some.sampled_from(EVIL_TEXTS), max_size=3),
    some.dictionaries(some.sampled_from(EVIL_TEXTS), some.sampled_from(EVIL_TEXTS), min_size=1, max_size=2),
    some.just([[[[[[[[]]]]]]]]),
)
EXTRAS = some.dictionaries(
    some.sampled_from(["mounts", "privileged", "runtime", "user", "network", "cap_add", "devices", "env", "gpus"]),
    some.one_of(EVIL, some.sampled_from([True, ["/:/host:rw"], "host", "0:0", {"LD_PRELOAD": "/tmp/x.so"}])),
    max_size=3,
)

def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in the lock."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


PLACES = list(places(GOOD))


@pytest.fixture(autouse=True)
def nobody_agreed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user have agreed to nothing."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def notebook(path: Path, lock: Any) -> Path:
    """Write a notebook with this in the place of its lock."""
    path.write_text(json.dumps({"cells": [], "metadata": {"tfgpu": lock}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_schema_is_one() -> None:
    """The published schema is a valid schema, and accepts what this package writes."""
    jsonschema.Draft202012Validator.check_schema(dict(read.schema()))
    lock = read.check(GOOD).lock
    assert read.check(to_json(lock)).lock == lock == from_json(GOOD)


def test_lock_of_an_ordinary_notebook_is_none(tmp_path: Path) -> None:
    """Neither a notebook without a lock, nor what is no notebook, is taken for one; a pipe is not waited for."""
    plain = tmp_path / "plain.ipynb"
    plain.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    os.mkfifo(tmp_path / "pipe.ipynb")
    for path in (plain, tmp_path / "pipe.ipynb", tmp_path, tmp_path / "absent", Path("/dev/zero")):
        assert read.find(path) is None
    config = KernelConfig()
    assert asyncio.run(start.locked(config, str(plain))) is config
    assert asyncio.run(start.locked(config, "console-1")) is config


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=some.sampled_from(PLACES), evil=EVIL, extras=EXTRAS)
def test_hostile_locks_get_nowhere(tmp_path: Path, place: tuple[Any, ...], evil: Any, extras: dict[str, Any]) -> None:
    """One value replaced by a hostile one, and keys that no notebook may decide about added: each is refused with an
    explanation, or leads to the question; whatever is accepted leaves mounts, network, user and runtime alone."""
    lock = copy.deepcopy(GOOD)
    inner: Any = lock
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = evil
    lock |= extras
    path = notebook(tmp_path / "evil.ipynb", lock)
    config = KernelConfig()
    with pytest.raises((LockInvalid, LockTooNew, ConsentNeeded)) as refused:
        asyncio.run(start.locked(config, str(path)))
    assert refused.value.remedy
    if isinstance(refused.value, ConsentNeeded):  # as if the user agreed nevertheless
        found = read.check(json.loads(path.read_text())["metadata"]["tfgpu"])
        assert sorted(found.ignored) == sorted(repr(key) for key in extras if key != "gpus") or "gpus" in extras
        followed = start.follow(config, found.lock)
        for setting in ("mounts", "mount_roots", "workspace", "network", "user", "gpus", "labels", "memory", "cpus"):
            assert getattr(followed, setting) == getattr(config, setting)
        assert followed.image == found.lock.image.pinned
        assert "\n" not in followed.image and not followed.image.startswith("-")
        for line in followed.locked.added if followed.locked else ():
            assert line.split(" ")[0].count("==") == 1 and "\n" not in line
    assert os.listdir(tmp_path) == ["evil.ipynb"]


FAMILIES: dict[str, dict[str, Any]] = {
    "another image": {"image": {**GOOD["image"], "reference": "evil.example/miner:latest"}},
    "an image by its id": {"image": {**GOOD["image"], "reference": "sha256:" + "1" * 64}},
    "--privileged": {"privileged": True, "image": {**GOOD["image"], "reference": "--privileged"}},
    "--privileged among privileges": {"privileged": True, "cap_add": ["ALL"], "security_opt": ["seccomp=unconfined"]},
    "a mount of /": {"mounts": ["/:/host:rw"], "workspace": "/", "mount_roots": ["/"]},
    "the engine's socket": {"mounts": ["/var/run/docker.sock"], "network": "host", "user": "0:0", "runtime": "runc"},
    "environment that loads code": {"environment": {"LD_PRELOAD": "/tmp/x.so"}},
    "environment that moves programs": {"environment": {"PATH": "/tmp", "PYTHONPATH": "/tmp"}},
    "environment with a line": {"environment": {"TZ": "x\nLD_PRELOAD=/tmp/x.so"}},
    "environment without a type": {"environment": {"TZ": ["x"]}},
    "a command in a package's name": {
        "packages": {"added": [{"name": "x; rm -rf /", "version": "1", "sha256": [HASH]}]}
    },
    "an option in a package's version": {
        "packages": {"added": [{"name": "x", "version": "1 --index-url=http://evil", "sha256": [HASH]}]}
    },
    "a package without its hash": {"packages": {"added": [{"name": "x", "version": "1", "sha256": []}]}},
    "a command in a package of the distribution": {"packages": {"system": ["git; rm -rf /"]}},
    "an option of apt": {"packages": {"system": ["-oAPT::Update::Pre-Invoke::=id"]}},
    "data outside": {"data": [{**GOOD["data"][0], "name": "../../.ssh/id_rsa"}]},
    "data by its whole path": {"data": [{**GOOD["data"][0], "name": "/etc/passwd"}]},
    "data at another place": {"data": [{**GOOD["data"][0], "place": "/"}]},
    "a field that is huge": {"image": {**GOOD["image"], "reference": "a" * 10**6}},
    "a list that is huge": {"image": {**GOOD["image"], "layers": [LAYER] * 10**4}},
    "a number that is huge": {"gpu": {"need": "required", "memory_bytes": 10**400}},
    "a field of another type": {"recorded": {"threads": "2"}, "cells": {"0": None}},
}
"""What of a good lock is replaced, by what somebody with bad intentions would try."""


@pytest.mark.parametrize("family", FAMILIES)
def test_each_kind_of_attack_is_refused(tmp_path: Path, family: str) -> None:
    """Named one by one: nothing starts, nothing is fetched or written, and the refusal says what to do."""
    path = notebook(tmp_path / "evil.ipynb", {**GOOD, **FAMILIES[family]})
    with pytest.raises((LockInvalid, ConsentNeeded)) as refused:
        asyncio.run(start.locked(KernelConfig(), str(path)))
    assert refused.value.remedy
    assert os.listdir(tmp_path) == ["evil.ipynb"]


@pytest.mark.parametrize(
    "lock",
    [[], "text", 7, {}, {"version": 1}, {**GOOD, "version": True}, {**GOOD, "image": {**GOOD["image"], "layers": []}}],
)
def test_what_is_no_lock_is_refused(lock: Any) -> None:
    """A lock of another type or without its parts is refused as a whole."""
    with pytest.raises(LockInvalid):
        read.check(lock)


def test_bombs_are_refused(tmp_path: Path) -> None:
    """A lock that is huge or nested without end is refused, and so is a number that is none."""
    huge = {**GOOD, "note": "x" * read.MAX_LOCK_BYTES}
    with pytest.raises(LockInvalid, match="at most"):
        read.check(huge)
    deep = tmp_path / "deep.ipynb"
    deep.write_text('{"metadata": {"tfgpu": ' + "[" * 200_000 + "]" * 200_000 + "}}")
    with pytest.raises(LockInvalid):
        read.find(deep)
    strange = notebook(tmp_path / "nan.ipynb", {**GOOD, "tolerance": {"relative": float("nan")}})
    with pytest.raises(LockInvalid):
        read.find(strange)


@pytest.mark.parametrize("version", [2, 10**400], ids=["next", "huge"])
def test_later_version(version: int) -> None:
    """A later version is told from a broken lock."""
    with pytest.raises(LockTooNew, match="later tfgpu-kernel"):
        read.check({**GOOD, "version": version})


def test_consent_is_for_one_image_with_its_packages() -> None:
    """A consent holds for exactly what it was given for; TensorFlow's own images by digest need none."""
    lock = read.check(GOOD).lock
    assert consent.needed(lock)
    consent.give(lock)
    assert not consent.needed(lock)
    other = copy.deepcopy(GOOD)
    other["packages"]["added"][0]["sha256"] = ["4" * 64]
    assert consent.needed(read.check(other).lock)
    official = copy.deepcopy(GOOD)
    official["image"] |= {"reference": "tensorflow/tensorflow:2.17.0-gpu", "digest": f"sha256:{'5' * 64}"}
    assert consent.needed(read.check(official).lock), "seaborn is not among what a kernel takes"
    official["packages"] = {"system": ["git"]}
    assert consent.needed(read.check(official).lock), "nor is git"
    official["packages"] = {}
    assert not consent.needed(read.check(official).lock)
    for name in ("evil.example/tensorflow/tensorflow:1", "tensorflow/tensorflow-evil:1"):
        official["image"]["reference"] = name
        assert consent.needed(read.check(official).lock)
    official["image"] = {**official["image"], "reference": "tensorflow/tensorflow:1"}
    del official["image"]["digest"]
    assert consent.needed(read.check(official).lock), "a name without a digest may be anybody's local image"

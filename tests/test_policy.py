"""The administrator's policy: read from a file of root's, judged last, refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tfgpu_kernel import picking, policy
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.errors import ConfigError, PolicyRefused
from tfgpu_kernel.lease import Holder
from tfgpu_kernel.lock.record import Image, Lock
from tfgpu_kernel.lock.start import follow
from tfgpu_kernel.policy import Policy

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="a file of root's takes root to make")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the policy is looked for."""
    tmp_path.chmod(0o755)
    monkeypatch.setattr(policy, "FILE", tmp_path / "policy.toml")
    return tmp_path / "policy.toml"


def test_no_file_is_no_limit(file: Path) -> None:
    """Without a policy everything is as the user sets it."""
    assert policy.load() == Policy()
    Policy().check_image("anything:1")
    Policy().check_folder("/srv")
    assert Policy().limited(KernelConfig()) is None


@root_only
def test_the_file_is_read(file: Path) -> None:
    """Each entry reaches its field; sizes in Docker's notation."""
    file.write_text(
        'images = ["tensorflow/*"]\nmount_roots = ["/srv/data"]\ngpus_per_user = 2\nkernels_per_gpu = 4\n'
        'memory = "16g"\n'
    )
    assert policy.load() == Policy(("tensorflow/*",), ("/srv/data",), 2, 4, 16 * 2**30)


@root_only
@pytest.mark.parametrize("who", ["another owner", "group may write", "folder is open"])
def test_a_file_that_others_can_change_stops_every_start(file: Path, who: str) -> None:
    """A policy that users could change is none, and no kernel starts until that is mended."""
    file.write_text("gpus_per_user = 1\n")
    if who == "another owner":
        os.chown(file, 12345, 12345)
    elif who == "group may write":
        file.chmod(0o664)
    else:
        file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="can be changed by others than root"):
        policy.load()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image": ["a"]}, "unknown entry, image"),
        ({"images": "tensorflow/*"}, "no list of texts"),
        ({"gpus_per_user": "2"}, "no whole number"),
        ({"kernels_per_gpu": True}, "no whole number"),
    ],
)
def test_a_mistake_in_the_file_is_told(values: dict[str, object], words: str) -> None:
    """A misspelt or mistyped entry stops every start, instead of limiting nothing."""
    with pytest.raises(ConfigError, match=words):
        policy.parse(values)


def test_images_go_by_pattern() -> None:
    """Only references that a pattern has are allowed; Docker Hub's long form is the short one."""
    limits = Policy(images=("tensorflow/tensorflow:*", "registry.example/ml/*"))
    for allowed in ("tensorflow/tensorflow:2.17.0-gpu", "docker.io/tensorflow/tensorflow:1", "registry.example/ml/a:b"):
        limits.check_image(allowed)
    for other in ("evil/tensorflow:1", "sha256:abc", "tensorflow/tensorflow"):
        with pytest.raises(PolicyRefused, match="choose one of these: tensorflow"):
            limits.check_image(other)


def test_a_pattern_for_all_tags_covers_the_digests_of_locks() -> None:
    """A lock names an image by its digest: that is of the repository, but of no tag in particular."""
    digest = "sha256:" + "0" * 64
    lock = Lock(Image("tensorflow/tensorflow:2.17.0-gpu", ("sha256:1",), "linux", "amd64", digest))
    pinned = follow(KernelConfig(), lock).image
    assert pinned == f"tensorflow/tensorflow@{digest}"
    for pattern in ("tensorflow/tensorflow:*", "docker.io/tensorflow/tensorflow:*", "tensorflow/*"):
        Policy(images=(pattern,)).check_image(pinned)
    for pattern in ("tensorflow/tensorflow:2.17*", "other/tensorflow:*", "tensorflow/tensorflow"):
        with pytest.raises(PolicyRefused):
            Policy(images=(pattern,)).check_image(pinned)


def test_folders_go_by_where_they_lead(tmp_path: Path) -> None:
    """A symlink out of the allowed folders is outside; a name that begins alike is another folder."""
    (tmp_path / "data/in").mkdir(parents=True)
    (tmp_path / "data2").mkdir()
    (tmp_path / "data/out").symlink_to("/etc")
    limits = Policy(mount_roots=(str(tmp_path / "data"),))
    limits.check_folder(str(tmp_path / "data/in"))
    limits.check_folder(str(tmp_path / "data"))
    for other in ("data2", "data/out", "data/../data2"):
        with pytest.raises(PolicyRefused):
            limits.check_folder(str(tmp_path / other))


def test_memory_is_capped() -> None:
    """Who asks for no limit gets the policy's; who asks for more is refused."""
    limits = Policy(memory=8 * 2**30)
    assert limits.limited(KernelConfig()) == 8 * 2**30
    assert limits.limited(KernelConfig(memory=2**30)) == 2**30
    with pytest.raises(PolicyRefused, match=r"16\.0 GiB of memory"):
        limits.limited(KernelConfig(memory=16 * 2**30))


def test_a_users_share_of_gpus() -> None:
    """What one user's kernels hold together is limited; other users' kernels don't count."""
    held = [Holder("GPU-a", "shared", 1000, "", "/r1", 0.0), Holder("GPU-b", "shared", 1001, "", "/r2", 0.0)]
    picking.check_share(Policy(gpus_per_user=2), 1000, 1, held)
    with pytest.raises(PolicyRefused, match="your kernels hold 1 already"):
        picking.check_share(Policy(gpus_per_user=1), 1000, 1, held)

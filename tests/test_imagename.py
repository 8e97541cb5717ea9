"""Names of images are compared as what they mean, not as they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tfgpu_kernel import imagename
from tfgpu_kernel.engine.base import ImageRecord
from tfgpu_kernel.lock import consent
from tfgpu_kernel.lock.record import Image, Lock
from tfgpu_kernel.locking import image_of

DIGEST = "sha256:" + "0" * 64
OTHER = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("name", "familiar", "repository", "tagged"),
    [
        ("ubuntu", "ubuntu", "ubuntu", "ubuntu:latest"),
        ("docker.io/library/ubuntu:22.04", "ubuntu:22.04", "ubuntu", "ubuntu:22.04"),
        ("index.docker.io/a/b", "a/b", "a/b", "a/b:latest"),
        (f"docker.io/a/b@{DIGEST}", f"a/b@{DIGEST}", "a/b", f"a/b@{DIGEST}"),
        (f"a/b:1@{DIGEST}", f"a/b:1@{DIGEST}", "a/b", f"a/b:1@{DIGEST}"),
        ("reg.example:5000/a/b", "reg.example:5000/a/b", "reg.example:5000/a/b", "reg.example:5000/a/b:latest"),
        ("localhost/a:1", "localhost/a:1", "localhost/a", "localhost/a:1"),
        ("docker.io/library/a/b:1", "library/a/b:1", "library/a/b", "library/a/b:1"),
        ("docker.io.example/a:1", "docker.io.example/a:1", "docker.io.example/a", "docker.io.example/a:1"),
    ],
)
def test_parts_of_a_name(name: str, familiar: str, repository: str, tagged: str) -> None:
    """Docker's own registry is left out, and nobody else's passes for it."""
    assert imagename.familiar(name) == familiar
    assert imagename.repository(name) == repository
    assert imagename.tagged(name) == tagged


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("tensorflow/tensorflow:2.17.0-gpu", "tensorflow/tensorflow"),
        ("tensorflow/tensorflow", "tensorflow/tensorflow"),
        ("docker.io/tensorflow/tensorflow:2.17.0", "docker.io/tensorflow/tensorflow"),
        ("reg.example:5000/a/b", "reg.example:5000/a/b"),
        ("reg.example:5000/a/b:1", "reg.example:5000/a/b"),
        (f"a/b@{OTHER}", "a/b"),
        (f"a/b:1@{OTHER}", "a/b"),
    ],
)
def test_a_locked_name_has_the_locks_digest_and_no_other(name: str, repository: str) -> None:
    """Tag and digest make place for it; the registry stays as it is written, for engines that add none."""
    image = Image(name, ("sha256:1",), "linux", "amd64", DIGEST)
    assert image.pinned == f"{repository}@{DIGEST}"
    assert replace(image, digest="").pinned == name


@pytest.mark.parametrize("known", ["tensorflow/tensorflow", "docker.io/tensorflow/tensorflow"])
@pytest.mark.parametrize(
    "asked", ["tensorflow/tensorflow:2", "index.docker.io/tensorflow/tensorflow", "tensorflow/tensorflow"]
)
def test_a_lock_has_the_digest_whoever_wrote_the_name(asked: str, known: str) -> None:
    """Docker knows an image's digest under the short name, podman under the long one; a user may say either."""
    found = (f"reg.example/tensorflow/tensorflow@{DIGEST[::-1]}", f"{known}@{DIGEST}")
    record = ImageRecord("sha256:1", (), found, ("sha256:2",), "amd64", "linux", 1, "", (), (), {})
    image = image_of(asked, record)
    assert image.digest == DIGEST
    assert consent.allowed(Lock(image))
    assert not consent.allowed(Lock(image_of("reg.example/tensorflow/tensorflow:2", record)))
    assert image_of("other/tensorflow:2", record).digest == ""

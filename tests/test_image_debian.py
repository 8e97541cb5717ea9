"""Which of the host's package sources a root file system is made from, and by what recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfgpu_kernel.errors import ConfigError, ImageBuildFailed
from tfgpu_kernel.image import build, debian
from tfgpu_kernel.image.debian import Release

BOOKWORM = Release("debian", "bookworm")
DEB822 = """\
# comment
Types: deb deb-src
URIs: http://deb.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] https://docker.example/linux/debian bookworm stable
deb http://security.example/debian-security bookworm-security main # comment
#deb http://old.example/debian bookworm main
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """Return an /etc/apt with both of apt's formats, and a third party's repository."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    return tmp_path


def test_sources_are_the_distributions_own(apt: Path) -> None:
    """Only the distribution's own suites count, in both formats; sources that are off don't."""
    keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert debian.sources(BOOKWORM, BOOKWORM, apt) == (
        "deb http://security.example/debian-security bookworm-security main",
        f"deb {keyring} http://deb.example/debian bookworm main",
        f"deb {keyring} http://deb.example/debian bookworm-updates main",
    )


def test_python_of_ubuntu_stands_in_an_entry_of_its_own(tmp_path: Path) -> None:
    """Ubuntu lists universe, which has Python's venv and pip, beside main; other components and pockets don't count."""
    uri = "http://archive.ubuntu.example/ubuntu/"
    pockets = ("jammy", "jammy-updates", "jammy-backports")
    parts = ("main restricted", "universe", "multiverse")
    lines = [f"deb {uri} {pocket} {part}" for pocket in pockets for part in parts]
    (tmp_path / "sources.list").write_text("\n".join(lines))
    jammy = Release("ubuntu", "jammy")
    assert debian.sources(jammy, jammy, tmp_path) == tuple(
        f"deb {uri} {pocket} {part}" for pocket in pockets[:2] for part in ("main", "universe")
    )


def test_sources_for_another_release(apt: Path) -> None:
    """Another release's packages come from the same mirrors."""
    lines = debian.sources(BOOKWORM, Release("debian", "trixie"), apt)
    assert len(lines) == 3
    assert all(" trixie" in line and "bookworm" not in line for line in lines)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\n', BOOKWORM),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME="noble"\n', Release("ubuntu", "noble")),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nUBUNTU_CODENAME=jammy\nVERSION_CODENAME=virginia\n',
         Release("ubuntu", "jammy")),
        ("ID=debian\n", None),
    ],
)  # fmt: skip
def test_host_release(text: str, release: Release | None, tmp_path: Path) -> None:
    """A derivative counts as what it derives from; a system without a codename as none."""
    file = tmp_path / "os-release"
    file.write_text(text)
    assert debian.host_release(file) == release


def test_recipe_follows_the_host() -> None:
    """What is left open is the host's release and Python, and the newest TensorFlow for that."""
    recipe = build.recipe(gpu=False, host=BOOKWORM, machine="x86_64")
    assert (recipe.python, recipe.tag) == ("3.11", "tfgpu/tensorflow:2.21-cpu")
    assert build.recipe(gpu=False, python="3.11", host=BOOKWORM).tag == "tfgpu/tensorflow:2.21-cpu-py3.11"
    assert recipe.requirements()[:2] == ("tensorflow-cpu==2.21.*", "ipykernel<8")
    assert not [change for change in recipe.changes() if "NVIDIA" in change]


def test_gpu_recipe() -> None:
    """The GPU variant brings CUDA's wheels, and tells the NVIDIA runtime what it wants."""
    recipe = build.recipe(gpu=True, tensorflow="2.20.0", python="3.9", host=BOOKWORM)
    assert recipe.release == Release("debian", "bullseye")
    assert recipe.requirements()[0] == "tensorflow[and-cuda]==2.20.0"
    assert "ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility" in recipe.changes()


def test_recipes_for_other_processors() -> None:
    """PyPI has tensorflow-cpu for amd64 alone, and for others a TensorFlow that is made without CUDA."""
    recipe = build.recipe(gpu=False, host=BOOKWORM, machine="aarch64")
    assert recipe.tag == "tfgpu/tensorflow:2.21-cpu"
    assert recipe.requirements()[0] == "tensorflow==2.21.*"
    with pytest.raises(ImageBuildFailed, match="aarch64 is made without CUDA"):
        build.recipe(gpu=True, host=BOOKWORM, machine="aarch64")


def test_recipes_that_can_not_be() -> None:
    """A Python that no release has, and a host that is neither Debian nor Ubuntu, are refused with the way out."""
    with pytest.raises(ConfigError, match=r"3\.9, 3\.11, 3\.13"):
        build.recipe(gpu=False, python="3.7", host=BOOKWORM)
    with pytest.raises(ImageBuildFailed, match="image save"):
        build.recipe(gpu=False, host=None)


def test_same_inputs_same_key() -> None:
    """A recipe's key changes with each of its inputs, and only with those."""
    keys = [
        build.recipe(gpu=gpu, tensorflow=version, constraints=bounds, host=BOOKWORM).key()
        for gpu in (False, True)
        for version in ("2.20", "2.21")
        for bounds in ((), ("numpy==2.1.0",))
    ]
    assert len(set(keys)) == len(keys)
    assert build.recipe(gpu=False, host=BOOKWORM).key() == build.recipe(gpu=False, host=BOOKWORM).key()

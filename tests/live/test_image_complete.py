"""Images that lack something are completed, once, and stay otherwise what they were."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator

import pytest

from tfgpu_kernel import labels
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.errors import ImageBuildFailed, ImageUnusable
from tfgpu_kernel.image import workshop
from tfgpu_kernel.image.ensure import ensure
from tfgpu_kernel.image.resolve import resolve
from tfgpu_kernel.progress import Step, unheard

from .conftest import made


@pytest.fixture
def fresh() -> Iterator[None]:
    """Begin without images that were completed from the small one, and leave none."""
    _forget("tfgpu-completed/tfgpu-test-slim")
    yield
    _forget("tfgpu-completed/tfgpu-test-slim")


def _forget(repository: str) -> None:
    listing = ["docker", "images", "--quiet", repository]
    found = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    if found:
        subprocess.run(["docker", "rmi", "--force", *set(found)], check=True, capture_output=True)


def run(image: str, *command: str, user: str = "1000:1000") -> str:
    """Run a command in an image as an ordinary user; return what it printed."""
    return subprocess.run(
        ["docker", "run", "--rm", "--network=none", f"--user={user}", "--env=HOME=/tmp", image, *command],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def packages(image: str) -> dict[str, str]:
    """Return what pip finds in an image."""
    listed = json.loads(run(image, "python3", "-m", "pip", "list", "--format=json"))
    return {entry["name"]: entry["version"] for entry in listed}


OLDER = ("frozen:py36", "tf:py39")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.nightly) for name in OLDER), "tf:py311"])
async def test_tensorflow_without_ipykernel_is_completed(engine: Engine, name: str) -> None:
    """The image's own packages stay at their versions, pip finds no conflict, and a kernel could start."""
    reference = made(name)
    ready = await ensure(reference, engine, KernelConfig(pull="never"), unheard)
    before, after = packages(reference), packages(ready.record.id)
    assert {key: after.get(key) for key in before} == before
    assert {"ipykernel", "matplotlib", "pandas", "ipywidgets", "tqdm"} <= {key.lower() for key in after}
    assert "No broken requirements" in run(ready.record.id, ready.python, "-m", "pip", "check")
    assert (
        run(ready.record.id, ready.python, "-c", "import ipykernel, matplotlib.pyplot, pandas, PIL; print(1)") == "1\n"
    )


async def test_what_is_made_is_the_image_with_more(engine: Engine, slim: str, fresh: None) -> None:
    """Layers and settings are the image's own; nothing that the host lent is left; the size added is told."""
    told: list[Step] = []
    config = KernelConfig(pull="never", packages=("tqdm",))
    ready = await ensure(slim, engine, config, told.append)
    base = await engine.image(slim)
    assert base is not None
    record = ready.record
    assert record.layers[: len(base.layers)] == base.layers
    assert (record.env, record.entrypoint, record.command) == (base.env, base.entrypoint, base.command)
    assert record.user in (base.user, "0")
    assert record.labels[labels.IMAGE_KIND] == labels.IMAGE_KIND_COMPLETED
    assert "tqdm==" in record.labels[labels.IMAGE_PACKAGES]
    assert run(record.id, "sh", "-c", "ls -A /tmp; cat /etc/pip.conf 2>/dev/null; env | grep -i pip; true") == ""
    assert "MB more" in told[-1].text


async def test_made_once_and_found_again(engine: Engine, slim: str, fresh: None) -> None:
    """Two launches at once make one image; later ones find it, and other packages make another."""
    config = KernelConfig(pull="never", packages=("tqdm",))
    one, two = await asyncio.gather(*(ensure(slim, engine, config, unheard) for _ in range(2)))
    assert one.record.id == two.record.id
    told: list[Step] = []
    assert (await ensure(slim, engine, config, told.append)).record.id == one.record.id
    assert "building" not in {step.phase for step in told}
    other = await ensure(slim, engine, KernelConfig(pull="never", packages=("tabulate",)), unheard)
    assert other.record.id != one.record.id
    assert len(await engine.images({labels.IMAGE_BASE: one.record.labels[labels.IMAGE_BASE]})) == 2


async def test_image_with_an_entrypoint_keeps_it(engine: Engine) -> None:
    """An entrypoint that ends at once neither hinders the completion nor gets lost by it."""
    reference = made("exits")
    ready = await ensure(reference, engine, KernelConfig(pull="never"), unheard)
    base = await engine.image(reference)
    assert base is not None
    assert ready.record.entrypoint == base.entrypoint


async def test_package_that_wants_another_version_is_refused(engine: Engine, slim: str, fresh: None) -> None:
    """What doesn't fit the image's own packages is an error with pip's words, and leaves nothing."""
    before = workshops()
    with pytest.raises(ImageBuildFailed, match="stay at their versions"):
        await ensure(slim, engine, KernelConfig(pull="never", packages=("tornado<5",)), unheard)
    assert workshops() == before


async def test_cancelled_completion_leaves_nothing(engine: Engine, slim: str, fresh: None) -> None:
    """Cancelling removes the container and makes no image."""
    before = workshops()
    begun = asyncio.Event()

    def hear(step: Step) -> None:
        if step.phase == "building":
            begun.set()

    config = KernelConfig(pull="never", packages=("tqdm", "tabulate", "networkx"))
    task = asyncio.create_task(ensure(slim, engine, config, hear))
    await asyncio.wait_for(begun.wait(), 60)
    for _ in range(300):
        if len(workshops()) > len(before):  # in which pip takes some seconds
            break
        await asyncio.sleep(0.1)
    assert len(workshops()) == len(before) + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert workshops() == before
    listing = ["docker", "images", "--quiet", "tfgpu-completed/tfgpu-test-slim"]
    assert subprocess.run(listing, check=True, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize(
    ("name", "word"),
    [("no-python", "has no Python"), ("python2", "Python 2"), ("musl", "musl")],
)
async def test_images_that_can_not_hold_a_kernel(engine: Engine, name: str, word: str) -> None:
    """What can't be completed is refused with the reason and what to take instead."""
    with pytest.raises(ImageUnusable, match=word) as caught:
        await ensure(made(name), engine, KernelConfig(pull="never"), unheard)
    assert "take " in caught.value.remedy


def workshops() -> list[str]:
    """Return the containers in which images are looked at and completed."""
    return subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label={labels.KIND}={labels.KIND_WORKSHOP}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()


async def test_completing_has_a_limit(engine: Engine, slim: str, fresh: None) -> None:
    """A launch waits for packages no longer than pull_timeout says, and nothing is left of the try."""
    before = workshops()
    config = KernelConfig(pull="never", packages=("tqdm", "tabulate"), pull_timeout=0.5)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ImageBuildFailed, match="pull_timeout"):
        await ensure(slim, engine, config, unheard)
    assert asyncio.get_running_loop().time() - began < 20
    assert workshops() == before


async def test_system_packages_come_by_apt(engine: Engine, slim: str, fresh: None) -> None:
    """A program of the image's distribution is there for cells, and of apt's downloads nothing is left."""
    ready = await ensure(slim, engine, KernelConfig(pull="never", system_packages=("tree",)), unheard)
    assert "tree v" in run(ready.record.id, "tree", "--version")
    left = run(ready.record.id, "sh", "-c", "ls -A /var/lib/apt/lists; ls /var/cache/apt/archives/*.deb || true")
    assert left == ""


async def test_packages_of_one_user_do_not_count(engine: Engine) -> None:
    """ipykernel in root's home (pip install --user) is none that a kernel finds."""
    reference = made("user-site")
    record = await engine.image(reference)
    assert record is not None
    facts = await workshop.look(record, reference, engine)
    assert "ipykernel" in facts.user_packages
    assert "ipykernel" not in facts.packages


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["no-pip:venv", "no-pip:debian"])
async def test_image_without_pip_gets_one(engine: Engine, name: str) -> None:
    """Neither an environment that uv made nor Debian's bare python3 has pip: one is found, and cells have it, too."""
    reference = made(name)
    ready = await ensure(reference, engine, KernelConfig(pull="never", extras=False), unheard)
    assert {"ipykernel", "pip"} <= {key.lower() for key in packages(ready.record.id)}
    record = await engine.image(reference)
    assert record is not None
    facts = await workshop.look(record, reference, engine)
    found = await resolve(record, facts, reference, ["tqdm"], (), engine, lambda line: None)
    assert {"ipykernel", "pip", "tqdm"} <= {package for package, _, _ in found}, "a lock would lack it"


@pytest.mark.nightly
async def test_image_with_packages_of_one_user_is_completed(engine: Engine) -> None:
    """pip doesn't take root's own ipykernel for the image's: the image gets one that kernels find."""
    ready = await ensure(made("user-site"), engine, KernelConfig(pull="never", extras=False), unheard)
    assert run(ready.record.id, ready.python, "-s", "-c", "import ipykernel; print(1)") == "1\n"


@pytest.mark.nightly
async def test_extras_are_switched_off(engine: Engine) -> None:
    """Without extras an image without ipykernel gets just that."""
    reference = made("exits")
    ready = await ensure(reference, engine, KernelConfig(pull="never", extras=False), unheard)
    has = ready.record.labels[labels.IMAGE_PACKAGES]
    assert "ipykernel==" in has
    assert "pandas==" not in has

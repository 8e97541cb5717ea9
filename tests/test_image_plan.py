"""What an image lacks, and how pip is to add it."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import pytest
from packaging.requirements import Requirement

from tfgpu_kernel.errors import ImageUnusable
from tfgpu_kernel.image import lent_pip
from tfgpu_kernel.image.facts import Facts
from tfgpu_kernel.image.plan import Plan, changed, complete

FROZEN = Facts(
    python=(3, 6, 9),
    executable="/usr/local/bin/python3",
    libc="glibc 2.27",
    machine="x86_64",
    packages={"numpy": "1.18.1", "pip": "20.0.2", "tensorflow-gpu": "2.1.0", "six": "1.14.0", "odd": "not-a-version"},
    user_packages={},
    cuda="10.1.243",
    cudnn="7.6.4",
    apt=True,
    distribution="ubuntu 18.04",
    pip_wheel="",
    root_only="",
    passwd="root:x:0:0:root:/root:/bin/bash\n",
    group="root:x:0:\n",
)
TODAY = replace(
    FROZEN,
    python=(3, 11, 2),
    packages={"numpy": "2.4.6", "pip": "23.0.1", "tensorflow": "2.21.0", "ipykernel": "7.4.0"},
)


def test_frozen_image_gets_what_its_python_takes() -> None:
    """The image of 2020 keeps its packages, and gets the releases that still ran on Python 3.6."""
    plan = complete(FROZEN, "tensorflow/tensorflow:latest-gpu-py3")
    assert plan is not None
    assert plan.requirements == ("ipykernel", "matplotlib", "pandas", "pillow", "ipywidgets", "tqdm")
    assert plan.new_pip == "pip==21.3.1"
    assert {"numpy==1.18.1", "tensorflow-gpu==2.1.0", "six==1.14.0"} < set(plan.constraints)
    assert {"ipykernel<=5.5.6", "pyzmq<=25.1.2", "pandas<=1.1.5"} < set(plan.constraints)
    assert all(Requirement(text) for text in plan.constraints), "a version that is none can't be a constraint"


def test_image_with_ipykernel_is_left_alone() -> None:
    """An image whose author put ipykernel in is taken as it is."""
    assert complete(TODAY, "mine") is None


def test_pip_is_added_beside_what_is_added() -> None:
    """An image without pip gets one with its other packages, for cells; for that alone it isn't changed."""
    without = replace(TODAY, packages={"ipykernel": "7.4.0"})
    assert complete(without, "mine") is None
    plan = complete(without, "mine", ["seaborn"])
    assert plan is not None
    assert plan.requirements == ("pip>=24", "seaborn")
    old = complete(replace(FROZEN, packages={}), "mine", extras=False)
    assert old is not None
    assert old.requirements == ("pip==21.3.1", "ipykernel")


def test_this_machines_pip_is_lent_where_it_runs() -> None:
    """Where an image has neither pip nor ensurepip, ours is lent; one too new for its Python is not, which is said."""
    bare = replace(TODAY, packages={})
    assert lent_pip.lent(TODAY, "mine") == lent_pip.lent(replace(bare, pip_wheel="/a.whl"), "mine") == b""
    with zipfile.ZipFile(io.BytesIO(lent_pip.lent(bare, "mine"))) as archive:
        assert {"pip/__main__.py", "pip/_vendor/requests/__init__.py"} <= set(archive.namelist())
    with pytest.raises(ImageUnusable, match=r"neither pip nor ensurepip, .* Python 3\.6"):
        lent_pip.lent(replace(bare, python=(3, 6, 9)), "mine")


def test_tensorflow_of_one_user_alone() -> None:
    """Where only a user's own folder has TensorFlow, kernels wouldn't find it: that is said, not met in a cell."""
    aside = replace(TODAY, packages={"pip": "23.0.1"}, user_packages={"tensorflow": "2.21.0", "ipykernel": "7.4.0"})
    with pytest.raises(ImageUnusable, match="for one user alone") as caught:
        complete(aside, "mine")
    assert 'packages = ["tensorflow==2.21.0"]' in caught.value.remedy
    plan = complete(aside, "mine", ["tensorflow==2.21.0"])
    assert plan is not None
    assert {"ipykernel", "tensorflow==2.21.0"} < set(plan.requirements)
    assert complete(replace(TODAY, user_packages={"tensorflow": "2.19.0"}), "mine") is None


def test_only_missing_packages_are_added() -> None:
    """Packages asked for are added to an image that has ipykernel, unless they are there in that version."""
    assert complete(TODAY, "mine", ["numpy>=2"]) is None
    plan = complete(TODAY, "mine", ["numpy<2", "seaborn"])
    assert plan is not None
    assert plan.requirements == ("numpy<2", "seaborn")
    assert "numpy==2.4.6" in plan.constraints, "pip is to refuse, not to change the image's numpy"
    assert plan.new_pip == ""


def test_requirement_of_another_python_is_none() -> None:
    """A requirement whose marker speaks of another Python is fulfilled."""
    assert complete(TODAY, "mine", ["dataclasses; python_version < '3.7'"]) is None


def test_extras_can_be_switched_off() -> None:
    """Without extras only ipykernel is added."""
    plan = complete(FROZEN, "x", extras=False)
    assert plan is not None
    assert plan.requirements == ("ipykernel",)


def test_user_may_ask_for_more_than_our_bounds() -> None:
    """A package that the user names is not bounded by our table."""
    plan = complete(FROZEN, "x", ["pandas==1.0.5"])
    assert plan is not None
    assert not [text for text in plan.constraints if text.startswith("pandas")]


@pytest.mark.parametrize(
    ("facts", "reference", "word"),
    [
        (replace(FROZEN, python=(2, 7, 18)), "tensorflow/tensorflow:2.1.0-gpu", "tensorflow:2.1.0-gpu-py3"),
        (replace(FROZEN, python=(3, 5, 2)), "tensorflow/tensorflow:1.15.0-py3", "3.6 or newer"),
        (replace(FROZEN, libc="musl"), "python:3.12-alpine", "without -alpine"),
        (replace(FROZEN, root_only="/root"), "mine", "chmod -R a+rX"),
    ],
)
def test_unusable_images_are_refused_with_the_tag_to_take(facts: Facts, reference: str, word: str) -> None:
    """An image that can't hold a kernel is refused with what to take instead."""
    with pytest.raises(ImageUnusable, match=word.replace("+", r"\+")):
        complete(facts, reference)


def test_key_tells_plans_apart() -> None:
    """Two plans have one key only if they are the same."""
    one, same, other = (Plan(("a",), ("b==1",)), Plan(("a",), ("b==1",)), Plan(("a",), ("b==2",)))
    assert one.key() == same.key() != other.key()


def test_changed_packages_are_found() -> None:
    """What an installation changed or removed of the image's own packages is named."""
    after = replace(TODAY, packages={**TODAY.packages, "numpy": "1.26.4", "seaborn": "0.13"})
    assert changed(TODAY, after) == ("numpy 2.4.6 → 1.26.4",)
    assert changed(TODAY, after, ours=("numpy",)) == ()


def test_facts_survive_being_written() -> None:
    """Facts read back are the facts that were written; anything else is a ValueError."""
    assert Facts.from_json(FROZEN.to_json()) == FROZEN
    for text in ("", "[]", "{}", '{"python": [3, 6, 9]}'):
        with pytest.raises(ValueError):
            Facts.from_json(text)


def test_system_packages_need_an_apt_that_works() -> None:
    """apt adds packages where the release is not too old; else the image is refused with what to take."""
    plan = complete(replace(TODAY, distribution="debian 12"), "mine", system_packages=["git"])
    assert plan is not None
    assert (plan.system_packages, plan.requirements) == (("git",), ())
    for facts, word in ((FROZEN, "ubuntu 18.04"), (replace(FROZEN, apt=False), "has no apt")):
        with pytest.raises(ImageUnusable, match=word):
            complete(facts, "mine", system_packages=["git"])

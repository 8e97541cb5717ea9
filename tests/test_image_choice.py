"""Which image ``auto`` takes, and what is said of an image before anybody waits for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tfgpu_kernel.config import AUTO, DEFAULT_IMAGE
from tfgpu_kernel.errors import ImageUnusable
from tfgpu_kernel.image.choice import choose
from tfgpu_kernel.image.foresight import Official, foresee, official
from tfgpu_kernel.image.hardware import Hardware
from tfgpu_kernel.image.presets import PRESETS, named, reference

from .test_image_plan import FROZEN, TODAY

T4 = Hardware(gpus=(("Tesla T4", (7, 5)),), cuda=(12, 4))
A100 = Hardware(gpus=(("NVIDIA A100", (8, 0)),), cuda=(12, 4))
B200 = Hardware(gpus=(("NVIDIA B200", (10, 0)),), cuda=(12, 9))
ARM = Hardware("aarch64", gpus=(("GH200", (9, 0)),), cuda=(12, 6))


@pytest.mark.parametrize(
    ("hardware", "image", "words"),
    [
        (T4, DEFAULT_IMAGE, "Tesla T4 and its driver can run"),
        (replace(T4, cuda=None), DEFAULT_IMAGE, "can run"),
        (Hardware(gpus=(("GPU", None),)), DEFAULT_IMAGE, "can run"),
        (A100, "tensorflow/tensorflow:2.17.0-gpu", "compute capability 8.0) is newer than"),
        (replace(A100, cuda=(11, 8)), "tensorflow/tensorflow:2.14.0-gpu", "newer than"),
        (replace(A100, cuda=(11, 4)), "tensorflow/tensorflow:2.14.0-gpu", "though the driver serves CUDA up to 11.4"),
        (replace(T4, gpus=(*T4.gpus, *A100.gpus)), "tensorflow/tensorflow:2.17.0-gpu", "NVIDIA A100"),
        (B200, "tfgpu/tensorflow:2.21-gpu", "newer than"),
        (Hardware(), DEFAULT_IMAGE, "as with a GPU"),
        (Hardware(gpu_wanted=False), "tensorflow/tensorflow:latest", "No GPU is asked for"),
        (Hardware("aarch64"), "tfgpu/tensorflow:2.21-cpu", "amd64 only"),
        (Hardware("aarch64", gpu_wanted=False), "tfgpu/tensorflow:2.21-cpu", "No GPU is asked for"),
    ],
)
def test_auto_suits_the_machine(hardware: Hardware, image: str, words: str) -> None:
    """``auto`` is the frozen image where GPU and driver can run it, else the newest that they can; it says why."""
    chosen = choose(AUTO, hardware)
    assert chosen.reference == image
    assert words in chosen.because
    assert "set image" in chosen.because


def test_auto_has_no_cuda_for_other_processors() -> None:
    """PyPI's TensorFlow for arm64 is made without CUDA: a GPU isn't lent to an image that can't use it."""
    with pytest.raises(ImageUnusable, match="made without CUDA") as caught:
        choose(AUTO, ARM)
    assert "nvcr.io/nvidia/tensorflow" in caught.value.remedy
    assert "TensorFlow CPU (Docker)" in caught.value.remedy


@pytest.mark.parametrize("hardware", [T4, A100, B200, ARM, Hardware(gpu_wanted=False)])
@pytest.mark.parametrize("image", [DEFAULT_IMAGE, "mine", "reg.example/a/b@sha256:" + "0" * 64])
def test_named_image_is_never_replaced(hardware: Hardware, image: str) -> None:
    """What the user named is what runs, whatever the machine is."""
    assert choose(image, hardware).reference == image
    assert choose(image, hardware).because == ""


def test_presets_go_by_their_names() -> None:
    """A preset's name stands for its image; no two share one, and none could be another image's reference."""
    assert reference("tf2.17-gpu") == "tensorflow/tensorflow:2.17.0-gpu"
    assert len({preset.name for preset in PRESETS}) == len({preset.reference for preset in PRESETS}) == len(PRESETS)
    assert not [preset.name for preset in PRESETS if ":" in preset.name or "/" in preset.name or preset.name == AUTO]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEFAULT_IMAGE, Official(True, (2, 1))),
        ("tensorflow/tensorflow:latest-py3", Official(False, (2, 1))),
        ("tensorflow/tensorflow", Official(False, None)),
        ("mirror.example:5000/hub/tensorflow/tensorflow:latest-gpu-jupyter", Official(True, None)),
        ("tensorflow/tensorflow:2.18.0-gpu", Official(True, (2, 18))),
        ("tensorflow/tensorflow:1.15.5-gpu-py3", Official(True, (1, 15))),
        ("tensorflow/tensorflow:custom-op-ubuntu16", None),
        ("somebody/tensorflow:latest-gpu", None),
    ],
)
def test_official_tags_are_read(text: str, expected: Official | None) -> None:
    """A tag of the official repository, at a mirror too, tells version and kind; no other repository's does."""
    assert official(text) == expected


@pytest.mark.parametrize(
    ("text", "hardware", "words", "instead"),
    [
        (DEFAULT_IMAGE, A100, "compiles for half an hour", "tf2.17-gpu"),
        ("tensorflow/tensorflow:2.3.0-gpu", A100, "compiles for half an hour", "tf2.17-gpu"),
        (DEFAULT_IMAGE, replace(A100, cuda=(11, 8)), "compiles", "tf2.14-gpu"),
        ("tensorflow/tensorflow:latest-gpu", T4, "needs 9.3", "tf2.17-gpu"),
        ("tensorflow/tensorflow:2.19.0-gpu", A100, "needs 9.3", "tf2.17-gpu"),
        ("tensorflow/tensorflow:2.17.0-gpu", replace(T4, cuda=(11, 8)), "CUDA up to 11.8", "tf2.14-gpu"),
        (DEFAULT_IMAGE, ARM, "made for amd64 only", "nvcr.io/nvidia/tensorflow"),
        ("tensorflow/tensorflow", Hardware("aarch64"), "made for amd64 only", "tf2.21-cpu"),
        (DEFAULT_IMAGE, replace(T4, free_bytes=3 * 10**9), "3.0 GB free", "image prune"),
    ],
)
def test_trouble_is_told_with_the_preset_to_take(text: str, hardware: Hardware, words: str, instead: str) -> None:
    """Each trouble ahead is one sentence that names the way out."""
    (sentence,) = foresee(text, hardware)
    assert words in sentence
    assert instead in sentence


@pytest.mark.parametrize(
    ("text", "hardware"),
    [
        (DEFAULT_IMAGE, T4),
        (DEFAULT_IMAGE, Hardware()),
        ("tensorflow/tensorflow:2.17.0-gpu", A100),
        ("tensorflow/tensorflow:latest", A100),
        ("tensorflow/tensorflow:latest-gpu", Hardware()),
        ("mine", replace(A100, free_bytes=1)),
        ("mine", ARM),
    ],
)
def test_what_works_is_not_warned_of(text: str, hardware: Hardware) -> None:
    """No warning where nothing is known to go wrong; on the CPU the CUDA inside doesn't matter."""
    assert foresee(text, hardware) == ()


def test_what_an_image_is_counts_more_than_its_name() -> None:
    """An image that is here is judged by what is inside, and needs no room."""
    assert "compiles for half an hour" in foresee("mine", A100, FROZEN, here=True)[0]
    broken = replace(TODAY, cuda="12.3", cudnn="8.9.6")
    assert "needs 9.3" in foresee("mine", A100, broken, here=True)[0]
    assert foresee("mine", A100, replace(broken, cudnn="9.28.0"), here=True) == ()
    assert foresee(DEFAULT_IMAGE, replace(T4, free_bytes=1), FROZEN, here=True) == ()


@pytest.mark.parametrize("hardware", [T4, A100, B200])
def test_auto_chooses_nothing_to_warn_of(hardware: Hardware) -> None:
    """What ``auto`` chooses runs into none of the known troubles."""
    assert foresee(choose(AUTO, hardware).reference, hardware) == ()


def test_built_presets_have_the_names_that_build_gives() -> None:
    """``image build`` makes the very images that the presets speak of."""
    from tfgpu_kernel.image.build import recipe
    from tfgpu_kernel.image.debian import Release

    for gpu in (False, True):
        preset = named(recipe(gpu=gpu, host=Release("debian", "bookworm"), machine="x86_64").tag)
        assert preset is not None
        assert preset.gpu == gpu

"""Outputs are compared by what they say: timings left out, numbers by their digits, pictures by their pixels."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tfgpu_kernel.lock import compare, normal, suspects
from tfgpu_kernel.lock.compare import Grade
from tfgpu_kernel.lock.record import Tolerance

SAME_BUT_FOR_TIME = [
    ("1875/1875 [==============================] - 3s 2ms/step - loss: 0.25",
     "1875/1875 [==============================] - 14s 7ms/step - loss: 0.25"),
    ("\r 1/3 [====>.........]\r 3/3 [==============]", "\r 3/3 [==============]"),
    ("100%|██████████| 50/50 [00:12<00:00,  4.11it/s]", "100%|██████████| 50/50 [01:02<00:00,  0.81it/s]"),
    ("CPU times: user 1.2 s, sys: 3 ms", "CPU times: user 3 s, sys: 1 ms"),
    ("epoch 6.0 of 6 · 12 s · loss 0.0404", "epoch 6.0 of 6 · 31 s · loss 0.0404"),
    ("<keras.History at 0x7f0012345678>", "<keras.History at 0x7f00aaaaaaaa>"),
    ("\x1b[1m3/3\x1b[0m done at 2026-01-02 03:04:05", "3/3 done at 2027-01-02T13:04:05Z"),
]  # fmt: skip


def printed(text: str) -> list[dict[str, Any]]:
    return [{"output_type": "stream", "name": "stdout", "text": text}]


Colour = tuple[int, int, int]


def picture(colour: Colour, level: int = 6, dot: Colour | None = None) -> list[dict[str, Any]]:
    image = Image.new("RGB", (20, 20), colour)
    if dot:
        image.putpixel((3, 3), dot)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return [{"output_type": "display_data", "data": {"image/png": base64.b64encode(buffer.getvalue()).decode()}}]


@pytest.mark.parametrize(("one", "two"), SAME_BUT_FOR_TIME)
def test_timings_say_nothing(one: str, two: str) -> None:
    """Outputs that differ in timings and progress alone are identical, and have the same hash."""
    assert compare.outputs(printed(one), printed(two), Tolerance())[0] is Grade.IDENTICAL
    assert normal.digest(printed(one)) == normal.digest(printed(two))


@pytest.mark.parametrize(
    ("one", "two", "grade"),
    [
        ("accuracy 0.9812", "accuracy 0.9812", Grade.IDENTICAL),
        ("accuracy   0.9812", "accuracy 0.9812", Grade.DIGITS),
        ("loss 0.12345678", "loss 0.123457", Grade.DIGITS),
        ("loss 0.12345678", "loss 0.12345679", Grade.TOLERANCE),
        ("loss 1e-9", "loss 2e-9", Grade.TOLERANCE),
        ("accuracy 0.9812", "accuracy 0.9813", Grade.DIFFERENT),
        ("98 %", "97 %", Grade.DIFFERENT),
        ("cat 1", "dog 1", Grade.DIFFERENT),
        ("3 wrong", "three wrong", Grade.DIFFERENT),
        ("5 s better than 4", "5 s better than 3", Grade.DIFFERENT),
        ("weights 0a1b2c3d4e5f60718293a4b5c6d7e8f9", "weights 0a1b2c3d4e5f60718293a4b5c6d7e8fa", Grade.DIFFERENT),
        ("version 2.21.0", "version 2.20.0", Grade.DIFFERENT),
        ("nan", "0.0", Grade.DIFFERENT),
        ("1e999999999", "2e999999999", Grade.DIFFERENT),
    ],
)  # fmt: skip
def test_numbers(one: str, two: str, grade: Grade) -> None:
    """Numbers are compared as numbers; words, hashes and versions to the letter."""
    assert compare.outputs(printed(one), printed(two), Tolerance())[0] is grade


def test_pictures() -> None:
    """Pictures are compared by bytes, then by pixels; the report gets where they differ."""
    white = picture((255, 255, 255))
    assert compare.outputs(white, picture((255, 255, 255)), Tolerance())[0] is Grade.IDENTICAL
    grade, (found,) = compare.outputs(white, picture((255, 255, 255), level=0), Tolerance())
    assert (grade, found.words) == (Grade.DIGITS, "the same pixels in other bytes")
    grade, (found,) = compare.outputs(white, picture((255, 255, 255), dot=(200, 255, 255)), Tolerance())
    assert grade is Grade.TOLERANCE
    assert "0.2% of the pixels differ" in found.words
    assert found.picture
    assert compare.outputs(white, picture((0, 0, 0)), Tolerance())[0] is Grade.DIFFERENT
    broken = [{"output_type": "display_data", "data": {"image/png": "AAAA"}}]
    assert compare.outputs(white, broken, Tolerance())[0] is Grade.DIFFERENT


def test_log_lines_of_tensorflow_say_nothing() -> None:
    """What TensorFlow logs tells of the machine and not of the result; other words on stderr count."""
    log = "2026-01-01 00:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] AVX2\nmine"
    plain = [{"output_type": "stream", "name": "stderr", "text": "mine"}]
    noisy = [{"output_type": "stream", "name": "stderr", "text": log}]
    assert compare.outputs(noisy, plain, Tolerance())[0] is Grade.IDENTICAL


def test_sanitizers_of_nbval() -> None:
    """A sanitize file as nbval has them takes further text out."""
    rules = normal.sanitizers("[run]\nregex: run \\d+\nreplace: RUN\n")
    assert compare.outputs(printed("run 1"), printed("run 2"), Tolerance(), rules)[0] is Grade.IDENTICAL
    with pytest.raises(ValueError, match="no regular expression"):
        normal.sanitizers("regex: (\nreplace: x\n")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import time\nprint(time.time())", "clock"),
        ("%timeit f()", "clock"),
        ("import uuid\nuuid.uuid4()", "random"),
        ("rng = np.random.default_rng()", "random"),
        ("%pip install seaborn", "add NOTEBOOK seaborn"),
        ("pd.read_csv('https://example.org/x.csv')", "network"),
        ("rng = np.random.default_rng(3)", ""),
        ("# time.time()\nprint(3)", ""),
    ],
)  # fmt: skip
def test_suspects(source: str, why: str) -> None:
    """What makes a cell unrepeatable is told from its source."""
    told = " ".join(suspects.reasons(source))
    assert why in told
    assert bool(told) == bool(why)

"""How well a rerun's outputs agree with the recorded ones, output by output: pure."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from typing import Any, Final

from PIL import Image, ImageChops, ImageStat, UnidentifiedImageError

from . import normal
from .normal import Sanitizer
from .record import Tolerance


class Grade(IntEnum):
    """From the best to the worst."""

    IDENTICAL = 0
    DIGITS = 1
    TOLERANCE = 2
    DIFFERENT = 3
    FAILED = 4

    @property
    def words(self) -> str:
        """The grade as people read it."""
        return _WORDS[self]


_WORDS: Final = {
    Grade.IDENTICAL: "bit-identical",
    Grade.DIGITS: "same printed digits",
    Grade.TOLERANCE: "within tolerance",
    Grade.DIFFERENT: "different",
    Grade.FAILED: "failed",
}


@dataclass(frozen=True)
class Difference:
    """One output that is not bit-identical: what kind, how far apart in words, and both contents."""

    kind: str
    grade: Grade
    words: str
    recorded: str
    rerun: str
    picture: str = ""
    """Where the pixels differ, as a PNG in base64; empty where it is no picture."""


# A number of its own: not a part of a name, of a hash or of a version.
_NUMBER: Final = re.compile(r"(?<![\w.])[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w]|\.\d)%?")
_PICTURES: Final = ("image/png", "image/jpeg")
MAX_PIXELS: Final = 64 * 10**6
_LONGEST: Final = 4000
"""So much of a text is kept for the report."""


def outputs(
    recorded: Sequence[Mapping[str, Any]],
    rerun: Sequence[Mapping[str, Any]],
    tolerance: Tolerance,
    further: Sequence[Sanitizer] = (),
) -> tuple[Grade, tuple[Difference, ...]]:
    """Grade one cell's outputs."""
    before, after = normal.outputs(recorded, further), normal.outputs(rerun, further)
    if before == after:
        return Grade.IDENTICAL, ()
    if [kind for kind, _ in before] != [kind for kind, _ in after]:
        words = f"recorded: {_kinds(before)}; in the rerun: {_kinds(after)}"
        texts = ["\n".join(content for kind, content in side if normal.is_text(kind)) for side in (before, after)]
        return Grade.DIFFERENT, (Difference("outputs", Grade.DIFFERENT, words, *map(_cut, texts)),)
    found = tuple(
        one(kind, old, new, tolerance)
        for (kind, old), (_, new) in zip(before, after, strict=True)
        if old != new
    )
    return max(difference.grade for difference in found), found


def one(kind: str, recorded: str, rerun: str, tolerance: Tolerance) -> Difference:
    """Grade one output whose content is not the same."""
    if kind in _PICTURES:
        return _picture(kind, recorded, rerun, tolerance)
    if not normal.is_text(kind):
        words = f"{len(recorded)} and {len(rerun)} characters that differ"
        return Difference(kind, Grade.DIFFERENT, words, _cut(recorded), _cut(rerun))
    grade, words = texts(recorded, rerun, tolerance)
    return Difference(kind, grade, words, _cut(recorded), _cut(rerun))


def texts(recorded: str, rerun: str, tolerance: Tolerance) -> tuple[Grade, str]:
    """Grade two texts by the numbers in them; the words between must be the same, spaces aside."""
    if recorded.split() == rerun.split():
        return Grade.DIGITS, "only spaces differ"
    if _between(recorded) != _between(rerun):
        return Grade.DIFFERENT, _first_line(recorded, rerun)
    grade, worst, words = Grade.DIGITS, Decimal(0), ""
    for old, new in zip(_NUMBER.findall(recorded), _NUMBER.findall(rerun), strict=True):
        this, apart = _numbers(old, new, tolerance)
        if this > grade or (this == grade and apart > worst):
            grade, worst = this, apart
            words = f"{old} became {new} (relative difference {apart:.2g})"
    return grade, words or "numbers differ only in how many digits are printed"


def _numbers(old: str, new: str, tolerance: Tolerance) -> tuple[Grade, Decimal]:
    if old == new:
        return Grade.IDENTICAL, Decimal(0)
    try:
        one, two = Decimal(old.rstrip("%")), Decimal(new.rstrip("%"))
        apart = abs(one - two)
        relative = apart / max(abs(one), abs(two)) if apart else Decimal(0)
        digits = max(one.as_tuple().exponent, two.as_tuple().exponent)
        # The one that has fewer digits is the other one, rounded.
        if old.endswith("%") == new.endswith("%") and isinstance(digits, int) and abs(digits) < 50:
            step = Decimal(1).scaleb(digits)
            if one.quantize(step) == two.quantize(step):
                return Grade.DIGITS, relative
        if apart <= Decimal(tolerance.absolute) or relative <= Decimal(tolerance.relative):
            return Grade.TOLERANCE, relative
    except (InvalidOperation, ArithmeticError):
        return Grade.DIFFERENT, Decimal(1)
    return Grade.DIFFERENT, relative


def _between(text: str) -> list[str]:
    return [" ".join(part.split()) for part in _NUMBER.split(text)]


def _first_line(recorded: str, rerun: str) -> str:
    old, new = recorded.split("\n"), rerun.split("\n")
    for number, (one, two) in enumerate(zip(old, new, strict=False), 1):
        if one != two:
            return f"line {number}: {one[:80]!r} became {two[:80]!r}"
    return f"{len(old)} lines became {len(new)}"


def _picture(kind: str, recorded: str, rerun: str, tolerance: Tolerance) -> Difference:
    try:
        old, new = _pixels(recorded), _pixels(rerun)
    except (ValueError, OSError, binascii.Error, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return Difference(kind, Grade.DIFFERENT, f"a picture can't be read: {error}", recorded, rerun)
    if old.size != new.size:
        words = "{}x{} pixels became {}x{}".format(*old.size, *new.size)
        return Difference(kind, Grade.DIFFERENT, words, recorded, rerun)
    apart = ImageChops.difference(old, new)
    mean = sum(ImageStat.Stat(apart).mean) / len(apart.getbands()) / 255
    if mean == 0:
        return Difference(kind, Grade.DIGITS, "the same pixels in other bytes", recorded, rerun)
    changed = sum(apart.convert("L").point(lambda value: 255 if value else 0).histogram()[1:])
    share = changed / (old.size[0] * old.size[1])
    grade = Grade.TOLERANCE if mean <= tolerance.pixels else Grade.DIFFERENT
    words = f"{share:.1%} of the pixels differ, by {mean:.2%} on average over all"
    buffer = io.BytesIO()
    apart.convert("L").point(lambda value: 255 - min(255, 4 * value)).save(buffer, "PNG")
    return Difference(kind, grade, words, recorded, rerun, base64.b64encode(buffer.getvalue()).decode())


def _pixels(encoded: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(encoded)), formats=("PNG", "JPEG"))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are too many")
    return image.convert("RGBA")


def _kinds(found: Sequence[tuple[str, str]]) -> str:
    return ", ".join(kind for kind, _ in found) or "nothing"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n…"

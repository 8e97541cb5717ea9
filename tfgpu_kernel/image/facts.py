"""What is known of an image: the facts its own Python tells, and the identity of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..engine.base import ImageRecord

TENSORFLOWS = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tf-nightly", "intel-tensorflow")
"""The names under which TensorFlow is on PyPI."""


@dataclass(frozen=True)
class Facts:
    """What an image's Python said of the image. Versions are texts, empty where there is none."""

    python: tuple[int, int, int]
    executable: str
    libc: str
    machine: str
    packages: Mapping[str, str]
    """Installed Python packages, normalised name → version."""
    user_packages: Mapping[str, str]
    """Those in the home of one of the image's users alone (``pip install --user``): no kernel sees them."""
    cuda: str
    cudnn: str
    apt: bool
    distribution: str
    """Such as ``ubuntu 18.04``, as /etc/os-release has it; empty where that is missing."""
    pip_wheel: str
    """The pip that the image's ensurepip would install, or empty."""
    root_only: str
    """A folder or file on the way to the interpreter that only root may enter, or empty."""
    passwd: str
    group: str

    @property
    def tensorflow(self) -> str:
        """TensorFlow's version, or empty."""
        return next((self.packages[name] for name in TENSORFLOWS if name in self.packages), "")

    @property
    def user_tensorflow(self) -> str:
        """A TensorFlow that only one of the users has, such as ``tensorflow==2.21.0``."""
        if self.tensorflow:
            return ""
        found = (f"{name}=={self.user_packages[name]}" for name in TENSORFLOWS if name in self.user_packages)
        return next(found, "")

    @property
    def short_python(self) -> str:
        """Python's version without the last number, such as 3.11."""
        return f"{self.python[0]}.{self.python[1]}"

    def to_json(self) -> str:
        """Return the facts as a text that :meth:`from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """Read facts.

        :raises ValueError: when the text is not what an image's probe prints.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(**{**raw, "python": tuple(raw["python"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an image's facts: {text[:200]}") from error


def identity(record: ImageRecord) -> str:
    """Return a hash of what an image is: platform, layers, and the settings that a container inherits.

    Not the image id, which differs between image stores, nor the digest, which ``docker load`` drops.
    """
    parts = [record.os, record.architecture, *record.layers, record.user, *record.env, *record.entrypoint]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

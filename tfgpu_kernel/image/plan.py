"""What an image lacks for a kernel, and how pip is to add it: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ..errors import ImageUnusable
from .facts import TENSORFLOWS, Facts

OLDEST = (3, 6)
EXTRAS = ("matplotlib", "pandas", "pillow", "ipywidgets", "tqdm")
"""What cells take for granted."""

OLDEST_APT = {"ubuntu": "20.04", "debian": "11"}
"""Older releases have moved to archives of their own, and NVIDIA has changed the key of its repository since."""
RESOLVING_PIP = Version("20.3")
"""From here on pip tries an older release where a newer one doesn't fit."""
LAST_PIP = {(3, 6): "21.3.1", (3, 7): "24.0", (3, 8): "25.0.1", (3, 9): "26.0.1"}
LAST = {
    (3, 6): {
        "ipykernel": "5.5.6", "ipython": "7.16.3", "jedi": "0.17.2", "pyzmq": "25.1.2",
        "tornado": "6.1", "traitlets": "4.3.3", "jupyter-client": "7.1.2", "matplotlib": "3.3.4",
        "pandas": "1.1.5", "pillow": "8.4.0", "ipywidgets": "7.7.5", "tqdm": "4.64.1",
    },
    (3, 7): {"ipykernel": "6.16.2", "ipywidgets": "8.1.5"},
    (3, 8): {"ipykernel": "6.29.5"},
    (3, 9): {"ipykernel": "6.31.0"},
}  # fmt: skip
"""Python → the releases known to work together there, as upper bounds."""


@dataclass(frozen=True)
class Plan:
    """What pip is to do in an image. ``constraints`` hold the image's own packages at their versions."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    new_pip: str = ""
    """The requirement for a pip to use beside the image's own, or empty where that one will do."""
    system_packages: tuple[str, ...] = ()
    """What apt is to install first."""
    locked: tuple[str, ...] = ()
    """Lines of a requirements file with hashes: exactly these files are installed, and nothing is resolved."""

    def key(self) -> str:
        """Return a short hash that differs where the plan differs."""
        later = ("system_packages", "locked")
        # A wish that nobody has leaves the keys of images as they were.
        parts = {name: value for name, value in asdict(self).items() if value or name not in later}
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def complete(
    facts: Facts,
    reference: str,
    packages: Sequence[str] = (),
    *,
    extras: bool = True,
    system_packages: Sequence[str] = (),
) -> Plan | None:
    """Return what has to be added so that a kernel runs with ``packages``, or None where nothing has.

    An image that has ipykernel is its author's choice and gets no extras of ours, only ``packages``.

    :raises ImageUnusable: where no kernel can run in the image at all, none would find its TensorFlow, or its apt
        can't add ``system_packages``.
    """
    refuse(facts, reference)
    if system_packages:
        refuse_apt(facts, reference)
    asked = {canonicalize_name(Requirement(text).name) for text in packages}
    if facts.user_tensorflow and not asked & set(TENSORFLOWS):
        raise ImageUnusable(
            f"In the image {reference} TensorFlow is installed for one user alone (pip install --user), in whose home "
            "no kernel looks: it has a home of its own.",
            "have the image's author install it for all (as root, without --user), or have it added here: "
            f'packages = ["{facts.user_tensorflow}"].',
        )
    wanted = list(packages)
    if "ipykernel" not in facts.packages:
        wanted = ["ipykernel", *(EXTRAS if extras else ()), *wanted]
    missing = tuple(text for text in wanted if not _satisfied(text, facts))
    if not missing and not system_packages:
        return None
    if missing and "pip" not in facts.packages and "pip" not in asked:
        missing = (_pip(facts), *missing)  # so that cells have it, too
    bounds = LAST.get(facts.python[:2], {})
    limits = [
        f"{name}<={version}"
        for name, version in bounds.items()
        if name not in facts.packages and name not in asked
    ]
    return Plan(missing, (*hold(facts), *limits), _pip(facts), tuple(system_packages))


def locked(facts: Facts, reference: str, lines: tuple[str, ...], system_packages: tuple[str, ...] = ()) -> Plan:
    """Return what adds exactly these packages: no more, no others, by their hashes.

    :raises ImageUnusable: where no kernel can run in the image at all, or its apt can't add ``system_packages``.
    """
    refuse(facts, reference)
    if system_packages:
        refuse_apt(facts, reference)
    return Plan(tuple(line.partition(" ")[0] for line in lines), (), _pip(facts), system_packages, lines)


def refuse(facts: Facts, reference: str) -> None:
    """Say why no kernel can run in the image, if so.

    :raises ImageUnusable: for Python 2, a Python before 3.6, musl, and a Python that only root may run.
    """
    if facts.python[0] == 2:
        raise ImageUnusable(
            f"The image {reference} has Python 2 ({_dotted(facts)}), which no kernel of today runs on.",
            f"take the tag for Python 3: {_with_py3(reference)}.",
        )
    if facts.python[:2] < OLDEST:
        raise ImageUnusable(
            f"The image {reference} has Python {_dotted(facts)}; a kernel needs 3.6 or newer.",
            "take a newer tag, such as tensorflow/tensorflow:latest-gpu-py3.",
        )
    if "musl" in facts.libc:
        raise musl(reference)
    if facts.root_only:
        raise ImageUnusable(
            f"In the image {reference} only root may run Python ({facts.root_only} is closed to others), "
            "and a kernel runs as you.",
            "take another image, or have its author make Python readable (chmod -R a+rX).",
        )


def refuse_apt(facts: Facts, reference: str) -> None:
    """Say why apt can't add packages to the image, if so.

    :raises ImageUnusable: where there is no apt, or the release is so old that its archive or keys are gone.
    """
    distribution, _, version = facts.distribution.partition(" ")
    oldest = OLDEST_APT.get(distribution)
    if facts.apt and (oldest is None or not _is_version(version) or Version(version) >= Version(oldest)):
        return
    why = f"is {facts.distribution}, whose packages can't be fetched any more" if facts.apt else "has no apt"
    raise ImageUnusable(
        f"The setting system_packages can't be fulfilled: the image {reference} {why}.",
        "take a newer image, such as the preset tf2.17-gpu, or remove system_packages.",
    )


def musl(reference: str) -> ImageUnusable:
    """Return the refusal of an image without glibc."""
    return ImageUnusable(
        f"The image {reference} is built on musl (Alpine Linux); TensorFlow is made for glibc only.",
        "take a tag based on Debian or Ubuntu: the same without -alpine, or tensorflow/tensorflow:latest.",
    )


def hold(facts: Facts) -> tuple[str, ...]:
    """Return constraints that keep the image's packages at their versions."""
    return tuple(
        f"{name}=={version}" for name, version in sorted(facts.packages.items()) if _is_version(version)
    )


def _pip(facts: Facts) -> str:
    own = facts.packages.get("pip", "")
    if _is_version(own) and Version(own) >= RESOLVING_PIP:
        return ""
    return f"pip=={LAST_PIP[facts.python[:2]]}" if facts.python[:2] in LAST_PIP else "pip>=24"


def _satisfied(text: str, facts: Facts) -> bool:
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate(
        {"python_version": facts.short_python, "python_full_version": _dotted(facts)}
    ):
        return True
    version = facts.packages.get(canonicalize_name(requirement.name), "")
    return (
        _is_version(version)
        and not requirement.extras
        and requirement.specifier.contains(version, prereleases=True)
    )


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _dotted(facts: Facts) -> str:
    return ".".join(str(number) for number in facts.python)


def _with_py3(reference: str) -> str:
    name, _, tag = reference.rpartition(":")
    return f"{name}:{tag}-py3" if name and "/" not in tag else f"{reference}:latest-py3"


def changed(before: Facts, after: Facts, ours: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the packages of the image that an installation changed in spite of the constraints."""
    allowed = set(ours)
    return tuple(
        f"{name} {version} → {after.packages.get(name, 'gone')}"
        for name, version in sorted(before.packages.items())
        if after.packages.get(name) != version and name not in allowed
    )

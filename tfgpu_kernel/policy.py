"""The administrator's limits: a file of root's that no user's setting can raise.

Settings of kernel.json beat those of the server, and both are the user's to change; so what must hold for everybody
is read from one file and judged last, when all settings are known. It binds who starts kernels through this package.
Who may use the engine's socket can start any container without it: see docs/gpus.md.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from . import imagename
from .config import KernelConfig, size
from .errors import ConfigError, PolicyRefused

FILE: Final = Path("/etc/tfgpu/policy.toml")


@dataclass(frozen=True)
class Policy:
    """What users may ask for; None and empty mean no limit.

    :param images: patterns of image references, such as ``tensorflow/tensorflow:*`` for all tags and digests of a
        repository.
    :param mount_roots: folders that workspace and mounts must lie in.
    :param gpus_per_user: GPUs that one user's kernels may hold at a time, together.
    :param kernels_per_gpu: kernels that may share a GPU.
    :param memory: most main memory of a kernel in bytes, and what one gets that asks for no limit.
    """

    images: tuple[str, ...] = ()
    mount_roots: tuple[str, ...] = ()
    gpus_per_user: int | None = None
    kernels_per_gpu: int | None = None
    memory: int | None = None

    def check_image(self, reference: str) -> None:
        """Refuse an image that no pattern allows.

        :raises PolicyRefused: with the patterns.
        """
        if self.images and not any(_covers(imagename.familiar(one), reference) for one in self.images):
            raise refused(f"the image {reference}", f"choose one of these: {', '.join(self.images)}")

    def check_folder(self, path: str) -> None:
        """Refuse a folder of the host, symlinks resolved, that lies in none of the allowed ones.

        :raises PolicyRefused: with the folders.
        """
        real = os.path.realpath(path)
        roots = [os.path.realpath(root) for root in self.mount_roots]
        if roots and not any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in roots):
            raise refused(f"the folder {path}", f"choose one in {', '.join(self.mount_roots)}")

    def limited(self, config: KernelConfig) -> int | None:
        """Return the memory that a kernel gets: what it asks for, or where it asks for none, the most.

        :raises PolicyRefused: when it asks for more.
        """
        if self.memory is not None and (config.memory or 0) > self.memory:
            limit = f"{self.memory / 2**30:.1f} GiB"
            raise refused(f"{(config.memory or 0) / 2**30:.1f} GiB of memory", f"set memory to {limit} or less")
        return config.memory or self.memory


def _covers(pattern: str, reference: str) -> bool:
    """Whether a pattern allows an image; one for every tag of a repository allows its digests, as locks name them."""
    plain = imagename.familiar(reference)
    any_tag = pattern.endswith(":*") and "@" in plain
    return fnmatchcase(plain, pattern) or (any_tag and fnmatchcase(imagename.repository(plain), pattern[:-2]))


def refused(what: str, remedy: str) -> PolicyRefused:
    """Return the error for something that the policy doesn't allow."""
    return PolicyRefused(
        f"This machine's policy ({FILE}) doesn't allow {what}.", f"{remedy}, or ask the administrator."
    )


def load() -> Policy:
    """Read the policy; without a file there are no limits.

    :raises ConfigError: when the file can't be trusted, read or understood; no kernel starts then.
    """
    try:
        with FILE.open("rb") as file:
            _check_trust(os.fstat(file.fileno()), FILE)
            _check_trust(os.stat(FILE.parent), FILE.parent)
            return parse(tomllib.load(file))
    except FileNotFoundError:
        return Policy()
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise _broken(f"can't be read: {error}") from error


def parse(values: dict[str, Any]) -> Policy:
    """Judge the file's values.

    :raises ConfigError: at the first that isn't known or has another type.
    """
    known = {field.name for field in fields(Policy)}
    for name in values:
        if name not in known:
            raise _broken(f"has an unknown entry, {name}; known are {', '.join(sorted(known))}")
    for name in ("images", "mount_roots"):
        entries = values.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
            raise _broken(f"has an entry {name} that is no list of texts")
    for name in ("gpus_per_user", "kernels_per_gpu"):
        number = values.get(name)
        if number is not None and (type(number) is not int or number < 0):
            raise _broken(f"has an entry {name} that is no whole number")
    return Policy(
        tuple(values.get("images", ())),
        tuple(values.get("mount_roots", ())),
        values.get("gpus_per_user"),
        values.get("kernels_per_gpu"),
        size("memory of the policy", values.get("memory"), least=1),
    )


def _check_trust(status: os.stat_result, path: Path) -> None:
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _broken(f"can't be trusted, because {path} can be changed by others than root")


def _broken(what: str) -> ConfigError:
    return ConfigError(
        f"This machine's policy {what} ({FILE}). No kernel starts until that is mended.",
        "ask the administrator to correct the file (sudo chown root:root, chmod 644).",
    )

"""The kernel's settings as options of a command line, made from the provisioner's traits.

Name, help and notation are the traits' own, so the command line can't drift from kernel.json.
"""

from __future__ import annotations

import argparse
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from traitlets import Bool, Dict, Float, Int, List, TraitType

from ..config import KernelConfig
from ..errors import ConfigError
from ..overlay import PROVISIONER, OverlaidSpecs
from ..settings import KernelSettings, judged


def add_settings(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Give a parser one option for each setting, ``--shm-size 4g``; lists and dicts may be repeated."""
    group = parser.add_argument_group("settings of the kernel")
    for name, trait in sorted(KernelSettings.class_own_traits(config=True).items()):
        if name in without:
            continue
        option = "--" + name.replace("_", "-")
        text = (trait.help or "").replace("%", "%%")
        if isinstance(trait, Bool):
            group.add_argument(option, dest=name, action=argparse.BooleanOptionalAction, help=text)
        elif isinstance(trait, List | Dict):
            metavar = "NAME=VALUE" if isinstance(trait, Dict) else "VALUE"
            group.add_argument(option, dest=name, action="append", metavar=metavar, help=text)
        else:
            group.add_argument(option, dest=name, type=_type(trait), metavar="VALUE", help=text)


def chosen_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, in kernel.json's form."""
    chosen = {}
    for name, trait in KernelSettings.class_own_traits(config=True).items():
        value = getattr(arguments, name, None)
        if value is None:
            continue
        if isinstance(trait, Dict):
            value = dict(item.partition("=")[::2] for item in value)
        chosen[name] = value
    return chosen


def of_kernel(arguments: argparse.Namespace) -> KernelConfig:
    """Return all settings of the kernel that is named, those of the command line laid over kernel.json's.

    :raises ConfigError: at the first that can't be used, or where there is no such kernel, or not one of ours.
    """
    specs = OverlaidSpecs()
    specs.settings = chosen_settings(arguments)
    try:
        spec = specs.get_kernel_spec(arguments.kernel)
    except NoSuchKernel:
        raise ConfigError(
            f"There is no kernel {arguments.kernel!r} here.",
            "name one of jupyter kernelspec list, by --kernel; jupyter tfgpu install makes one.",
        ) from None
    stanza = spec.metadata.get("kernel_provisioner", {})
    if stanza.get("provisioner_name") != PROVISIONER:
        raise ConfigError(
            f"The kernel {arguments.kernel} doesn't run in a container, so there is nothing here to set, lock or "
            "tell of.",
            "name one that does, such as --kernel tfgpu; for others there is jupyter nbconvert --execute.",
        )
    return judged(stanza.get("config", {}))


def _type(trait: TraitType[Any, Any]) -> Any:
    if isinstance(trait, Int):
        return int
    return float if isinstance(trait, Float) else str

"""Which of a machine's GPUs a kernel gets, by its setting, and by who holds what. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from . import holding
from .config import Gpus, KernelConfig
from .errors import ConfigError, GpuUnusable
from .gpu import units
from .gpu.units import Unit
from .lease import Holder
from .policy import Policy, refused

Suits = Callable[["tuple[int, int] | None"], bool]
"""Whether a kernel's image has code for a compute capability; such GPUs come first."""


def any_suits(capability: tuple[int, int] | None) -> bool:
    """Prefer no GPU: nothing is known of the image."""
    return True


def kept(config: KernelConfig, here: Sequence[Unit], own: Sequence[Holder]) -> tuple[Unit, ...]:
    """Return the units that a kernel keeps at its restart: what it holds, if all are here and as the setting says.

    They are none where the setting was changed between two starts: the kernel was moved.
    """
    known = {unit.uuid: unit for unit in here}
    had = [holder.gpu for holder in own]
    if isinstance(config.gpus, tuple):
        fits = set(had) == {unit.uuid for unit in here if {unit.place, unit.uuid} & set(config.gpus)}
    else:
        fits = config.gpus in ("all", len(had))
    return tuple(known[uuid] for uuid in had) if fits and known.keys() >= set(had) else ()


def pick(
    config: KernelConfig,
    here: Sequence[Unit],
    held: Sequence[Holder],
    ahead: int,
    policy: Policy | None = None,
    suits: Suits = any_suits,
) -> tuple[Unit, ...]:
    """Choose units: those named, all, or as many as wanted: such as the image suits, with most free memory. Pure.

    Several are whole GPUs, and so are all; where there are none of those, all is the best MIG device.

    :param held: who holds what now, this kernel left out.
    :param ahead: how many wait longer: a unit that nobody has is theirs.
    :raises GpuUnusable: when there are fewer than wanted.
    :raises GpusTaken: when too few are free.
    :raises ConfigError: when one is named that isn't here, or several with a MIG device among them.
    """
    wanted = _wanted(config.gpus, here)
    number = wanted if isinstance(wanted, int) else len(wanted)
    users = Counter(holder.gpu for holder in held)
    exclusive = {holder.gpu for holder in held if holder.sharing == "exclusive"}
    most = policy.kernels_per_gpu if policy and policy.kernels_per_gpu else None

    def free(unit: Unit) -> bool:
        if unit.uuid in exclusive or (most and users[unit.uuid] >= most):
            return False
        if ahead and not users[unit.uuid]:
            return False
        alone = config.gpu_sharing == "exclusive" or unit.compute_mode == "exclusive-process"
        return not alone or (not users[unit.uuid] and unit.unused)

    candidates = wanted if isinstance(wanted, tuple) else here if number == 1 else _whole(here)
    available = [unit for unit in candidates if free(unit)]
    if len(available) < number:
        raise holding.taken(number, candidates, available, held, ahead)
    if not isinstance(wanted, int):
        return tuple(available)
    best = units.best(available, users)
    return tuple(sorted(best, key=lambda unit: not suits(unit.compute_capability))[:number])


def _wanted(gpus: Gpus, here: Sequence[Unit]) -> int | tuple[Unit, ...]:
    if gpus == "all":
        return _whole(here) or 1
    if isinstance(gpus, int):
        if gpus > len(here):
            raise GpuUnusable(
                f"The kernel wants {gpus} GPUs, and this machine has {len(here)}.",
                f"set gpus to {len(here)} or less; a GPU by its index is device=0.",
            )
        if gpus > max(1, len(_whole(here))):
            raise _one_mig(f"The kernel wants {gpus} GPUs, and this machine has {len(_whole(here))} that are whole")
        return gpus
    known = {name: unit for unit in here for name in (unit.place, unit.uuid)}
    missing = [name for name in gpus if name not in known]
    if missing:
        parts = [unit.place for unit in here if ":" in unit.place and unit.place.partition(":")[0] in missing]
        cut = ", which is cut into MIG devices and can't be lent whole" if parts else (
            ", which this machine hasn't, or on which nobody may compute"
        )
        raise ConfigError(
            f"The setting gpus names {', '.join(missing)}{cut}.", f"choose among {', '.join(known)}."
        )
    # The same GPU by index and by UUID is one GPU.
    chosen = tuple(dict.fromkeys(known[name] for name in gpus))
    if len(chosen) > 1 and any(unit.is_mig for unit in chosen):
        raise _one_mig(f"The setting gpus names {len(chosen)} GPUs ({', '.join(gpus)}) with a MIG device among them")
    return chosen


def _whole(here: Sequence[Unit]) -> tuple[Unit, ...]:
    return tuple(unit for unit in here if not unit.is_mig)


def _one_mig(what: str) -> ConfigError:
    return ConfigError(
        f"{what}; of MIG devices, CUDA uses one in a process, and nothing beside it.",
        "set gpus to 1, or to one MIG device, or have a larger one made.",
    )


def check_share(policy: Policy, uid: int, more: int, held: Sequence[Holder]) -> None:
    """Refuse what goes beyond a user's share.

    :raises PolicyRefused: when the user's kernels would hold too many GPUs.
    """
    most = policy.gpus_per_user
    if most is None:
        return
    has = sum(holder.uid == uid for holder in held)
    if has + more > most:
        raise refused(
            f"more than {most} GPUs per user, and your kernels hold {has} already",
            "shut down a kernel that you don't need (jupyter tfgpu ps)",
        )

"""Whose a GPU's memory is: recorded cgroups, and a thousand random machines against an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgpu_kernel.attribution import (
    Process,
    Share,
    Usage,
    attribute,
    attribute_all,
    containers_in,
    holders,
)
from tfgpu_kernel.gpu.nvml import Gpu, MigDevice

A, B, C = ("a1" * 32, "b2" * 32, "c3" * 32)

RECORDED = {
    "v1, cgroupfs driver, a parent of the administrator's": (
        f"9:name=systemd:/eng/{A}\n4:memory:/eng/{A}\n1:cpu:/eng/{A}\n0::/eng/{A}\n",
        (A,),
    ),
    "v1, docker's own parent": (f"12:pids:/docker/{A}\n11:memory:/docker/{A}\n", (A,)),
    "v1, systemd driver": (f"4:memory:/system.slice/docker-{A}.scope\n0::/system.slice/docker-{A}.scope\n", (A,)),
    "v2, cgroupfs driver": (f"0::/docker/{A}\n", (A,)),
    "v2, systemd driver": (f"0::/system.slice/docker-{A}.scope\n", (A,)),
    "v2, rootless": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope\n",
        (A,),
    ),
    "v2, groups of the container's own below it": (f"0::/system.slice/docker-{A}.scope/init.scope\n", (A,)),
    "v2, seen from a container with a cgroup namespace": (f"0::/../docker-{A}.scope\n", (A,)),
    "podman": (f"0::/machine.slice/libpod-{A}.scope/container\n", (A,)),
    "kubernetes, containerd": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1e2.slice/cri-containerd-{A}.scope\n",
        (A,),
    ),
    "an engine in a container": (f"4:memory:/docker/{A}/docker/{B}\n0::/docker/{A}/docker/{B}\n", (A, B)),
    "no container": ("0::/user.slice/user-1000.slice/session-2.scope\n", ()),
    "a hash that is longer than an id": (f"0::/cache/{A}ab\n", ()),
}


@pytest.mark.parametrize("name", RECORDED)
def test_each_form_of_cgroup_names_its_container(name: str) -> None:
    """Whatever engine, driver and version of cgroups made a path, the container's id is found in it."""
    text, expected = RECORDED[name]
    assert containers_in(text) == expected


def test_memory_is_summed_by_container_and_the_rest_is_others() -> None:
    """A container's processes are one share; foreign containers and the host's processes are one sum."""
    processes = {
        1: Process((A,), 0),
        2: Process((A,), 0),
        3: Process((B,), 0),
        4: Process((), 0),
        5: Process((C,), 0),
    }
    usage = attribute({1: 5, 2: 6, 3: 20, 4: 7, 5: 1, 6: 2}, processes, {A, B}, 10)
    assert usage == Usage((Share(B, 20, 1), Share(A, 11, 2)), others_bytes=10, others=3)


def test_what_the_driver_does_not_tell_is_none() -> None:
    """A sum with an unknown part is unknown, and a device with no list has no usage."""
    usage = attribute({1: None, 2: 5}, {1: Process((A,), 0), 2: Process((A,), 0)}, {A}, 10)
    assert usage == Usage((Share(A, None, 2),))
    assert attribute(None, {}, {A}, 10) is None


def test_mig_devices_have_their_own_holders() -> None:
    """Each part of a GPU is told for itself, and the whole, which tells nothing under MIG, is None."""
    part = MigDevice("MIG-1", processes={1: 3})
    gpu = Gpu(0, "GPU-1", "A100", (8, 0), None, None, mig_mode=True, mig_devices=(part,))
    assert holders([gpu]) == {1}
    assert attribute_all([gpu], {1: Process((A,), 0)}, {A}, 10) == {
        "GPU-1": None,
        "MIG-1": Usage((Share(A, 3, 1),)),
    }


# -- random machines -----------------------------------------------------------------------------------

FORMS = (
    "4:memory:/docker/{0}\n0::/docker/{0}\n",
    "9:name=systemd:/own/{0}\n4:memory:/own/{0}\n",
    "0::/system.slice/docker-{0}.scope\n",
    "0::/docker/{0}/init\n",
    "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{0}.scope\n",
)


@dataclass(frozen=True)
class Life:
    """One process of a random machine, from its start to its end, in hundredths of a second."""

    pid: int
    started: int
    ended: int
    chain: tuple[str, ...]
    """The containers around it, outermost first."""
    form: str
    memory: int | None

    @property
    def cgroup(self) -> str:
        return self.form.format("/docker/".join(self.chain)) if self.chain else "0::/user.slice/session-1.scope\n"


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[Life], set[str], int, int]:
    """Return processes with few ids, so that ids are given anew often; our containers; two times of looking."""
    ids = [f"{number:064x}" for number in range(1, 6)]
    ours = set(draw(st.lists(st.sampled_from(ids[:4]), unique=True)))
    lives: list[Life] = []
    for pid in range(100, 100 + draw(st.integers(1, 6))):
        now = draw(st.integers(0, 40))
        for _ in range(draw(st.integers(1, 4))):
            ended = now + draw(st.integers(2, 60))
            chain = draw(st.sampled_from([(), *((one,) for one in ids), (ids[4], ids[0]), (ids[0], ids[1])]))
            form = draw(st.sampled_from(FORMS[:4] if len(chain) > 1 else FORMS))
            if len(chain) > 1 and "docker-" in form:
                form = FORMS[0]
            memory = draw(st.one_of(st.none(), st.integers(0, 2**36)))
            lives.append(Life(pid, now, ended, chain, form, memory))
            now = ended + draw(st.integers(0, 5))
    asked = draw(st.integers(2, 120))
    return lives, ours, asked, asked + draw(st.integers(0, 30))


Held = tuple[int, int | None]
"""How many processes hold how many bytes."""


def _alive(lives: list[Life], time: int) -> dict[int, Life]:
    return {life.pid: life for life in lives if life.started <= time < life.ended}


def _expected(told: Mapping[int, Life], later: Mapping[int, Life], ours: set[str], asked: int) -> dict[str, Held]:
    """Say what is right, from what really happened: a figure belongs to whoever held it when NVML told it."""
    sums: dict[str, Held] = {}
    for pid, life in told.items():
        still = later.get(pid) is life
        sure = still and life.started + 1 <= asked
        inner = [name for name in life.chain if name in ours]
        key = inner[-1] if sure and inner else "others"
        count, used = sums.get(key, (0, 0))
        sums[key] = (count + 1, None if used is None or life.memory is None else used + life.memory)
    return sums


@settings(max_examples=1000, deadline=None, database=None)
@given(machines())
def test_attribution_is_right_on_random_machines(machine: tuple[list[Life], set[str], int, int]) -> None:
    """Processes come, go, nest and reuse ids between the two looks; no byte is ever given to a wrong container."""
    lives, ours, asked, looked = machine
    told = _alive(lives, asked)
    later = _alive(lives, looked)
    processes = {pid: Process(containers_in(life.cgroup), life.started / 100) for pid, life in later.items()}
    between_ticks = (asked + 0.5) / 100
    usage = attribute({pid: life.memory for pid, life in told.items()}, processes, ours, between_ticks)
    assert usage is not None
    found: dict[str, Held] = {share.container: (share.processes, share.used_bytes) for share in usage.shares}
    if usage.others:
        found["others"] = (usage.others, usage.others_bytes)
    assert found == _expected(told, later, ours, asked)
    sizes = [share.used_bytes or 0 for share in usage.shares]
    assert sizes == sorted(sizes, reverse=True)

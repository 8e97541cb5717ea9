"""``jupyter tfgpu doctor`` names the first broken rung and its remedy, each broken in turn; docs/doctor.md shows it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from .doctor_cases import CASES, IMAGE, PAGE, Case, Examine, machines
from .gpu_machine import Machine, needs_own_engine

pytestmark = needs_own_engine



@pytest.fixture(scope="module")
def examine(tmp_path_factory: pytest.TempPathFactory, nvidia_machine: Machine) -> Iterator[Examine]:
    """Return what examines a case."""
    with machines(tmp_path_factory.mktemp("doctor"), nvidia_machine) as made:
        yield made


QUICK = {"", "driver", "registered", "device", "libcuda"}
"""Broken rungs that every run tries, each once; the rest is for the night, since each case starts a container."""


def _cases() -> Iterator[ParameterSet]:
    seen = set[str]()
    for case in CASES:
        quick = case.broken in QUICK and case.broken not in seen and case.where != "cdi"
        seen.add(case.broken)
        yield pytest.param(case, id=case.title, marks=() if quick else pytest.mark.nightly)


@pytest.mark.parametrize("case", _cases())
def test_each_rung(examine: Examine, case: Case) -> None:
    """The rung that is broken is named first, those above aren't reached, the remedy is the right one."""
    code, found, text = examine(case)
    findings = found["findings"]
    ladder = [finding for finding in findings if finding["part"] == "ladder"]
    assert found["broken"] == (case.broken or None), text
    assert code == (1 if case.broken else 0)
    assert case.says in text
    states = {finding["name"]: finding["state"] for finding in findings}
    if case.warns:
        assert states[case.warns] == "warning"
    if case.broken in {finding["name"] for finding in ladder}:
        place = [finding["name"] for finding in ladder].index(case.broken)
        assert {finding["state"] for finding in ladder[:place]} <= {"ok", "warning"}
        assert {finding["state"] for finding in ladder[place + 1 :]} <= {"not reached"}
        broken = ladder[place]
        assert broken["remedy"]
        assert f"To mend first: {broken['title']}." in text
    elif not case.broken:
        assert {finding["state"] for finding in ladder} <= {"ok", "warning"}
    assert f"## {case.title}\n" in PAGE.read_text()


def test_a_report_tells_no_secret(examine: Examine, nvidia_machine: Machine) -> None:
    """The report has versions and findings, and neither UUIDs nor addresses nor what a refusal let slip."""
    state = CASES[6].state
    slip = "token=abc123 http://ada:pass@10.1.2.3/ GPU-12345678-aaaa-bbbb-cccc-1234567890ab"
    nvidia_machine.set(type(state)(**{**vars(state), "refusal": slip}))
    command = [sys.executable, "-m", "tfgpu_kernel.cli", "doctor", "--smoke", "--report", "--image", f"{IMAGE}:gpu"]
    text = nvidia_machine.run(command, check=False, HOME="/home/ada-l").stdout
    for secret in ("abc123", "pass@", "10.1.2.3", "aaaa-bbbb", "/home/ada-l"):
        assert secret not in text
    assert "token=***" in text
    assert text.startswith("```text\ntfgpu-kernel ")
    assert re.search(r"engine \d+\.\d+", text)

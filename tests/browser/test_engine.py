"""A Docker engine that answers no more, as a person sees it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.faults.daemons import Faulty, faulty
from tests.live.gpu_machine import needs_own_engine

from .conftest import tab
from .page import Lab
from .serving import running

pytestmark = [needs_own_engine, pytest.mark.nightly]


@pytest.fixture
def hanging() -> Iterator[Faulty]:
    """Give an engine that can be made to hang."""
    with faulty() as engine:
        yield engine


@pytest.fixture
def hanging_lab(hanging: Faulty, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Open a tab on a server with that engine."""
    made = Path(tempfile.mkdtemp(prefix="tfh-"))
    try:
        with running(made, env={"DOCKER_HOST": hanging.daemon.host}) as server:
            yield from tab(server, browser, request)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def test_an_engine_that_hangs_is_told_and_its_return_too(hanging_lab: Lab, hanging: Faulty) -> None:
    """Status bar and notice say that the engine doesn't answer; the doctor says so, too; then that it is back."""
    item = hanging_lab.page.get_by_role("button", name=re.compile("Docker doesn.t answer"))
    toast = hanging_lab.page.locator(".Toastify__toast", has_text="The Docker engine is not answering. Kernels go on")
    hanging_lab.page.wait_for_timeout(2000)
    expect(item).to_have_count(0)
    with hanging.hung():
        expect(item).to_be_visible()
        expect(toast).to_be_visible()
        toast.get_by_role("button", name="Open Doctor").click()
        doctor = hanging_lab.page.get_by_role("tabpanel", name="Doctor")
        expect(doctor.get_by_role("status")).to_contain_text("Looking at")
        hanging_lab.reload()
        expect(item).to_be_visible()
        expect(toast).to_be_visible()
    expect(hanging_lab.page.locator(".Toastify__toast", has_text="answers again")).to_be_visible()
    expect(item).to_have_count(0)
    expect(toast).to_have_count(0)

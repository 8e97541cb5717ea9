"""What becomes of a notebook while a job changes its file: the job's end is the test's, the rest is real."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.test_lock_read import GOOD

from .page import Lab
from .serving import Server

NAME = "abcdef0123456789"


@dataclass
class Job:
    """Answers for the server: one job that runs until the test ends it, or that is refused."""

    page: Page
    state: str = "running"
    refusal: str = ""
    lost: int = 0
    """So many answers are lost."""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.route("**/tfgpu/sharing/jobs**", self._answer)
        self.page.route("**/tfgpu/sharing/jobs/**", self._answer)

    def _answer(self, route: Route) -> None:
        if route.request.method == "POST":
            self.asked.append(route.request.post_data_json)
            if self.refusal:
                route.fulfill(status=409, json={"message": self.refusal})
                return
        elif self.lost:
            self.lost -= 1
            route.abort()
            return
        asked = self.asked[-1]
        route.fulfill(json={"id": NAME, "verb": asked["verb"], "path": asked["path"], "state": self.state, "code": 0,
                            "text": "", "fraction": None, "lines": [], "report": False})  # fmt: skip


def lock(notebook: Path) -> None:
    """Write a notebook's file as a job does."""
    raw = json.loads(notebook.read_text())
    raw["metadata"]["tfgpu"] = GOOD
    notebook.write_text(json.dumps(raw))


def test_no_edit_is_lost_to_a_job(lab: Lab, server: Server) -> None:
    """What is edited while packages are kept stays and is saved with them; where a lock would replace it, one is asked.

    What a cell installed is kept in that cell's notebook, whichever is in front, and a lost answer doesn't end it.
    """
    lab.expect_error("ERR_FAILED|409")
    job = Job(lab.page, lost=1)
    notebook = server.notebook("mine.ipynb", "1", kernel="slim")
    server.notebook("other.ipynb", "1", kernel="slim")
    lab.notebook("mine.ipynb")
    lab.idle()
    lab.run("if 0:\n    %pip install -q seaborn 'pandas>=2'  # to plot\n    %pip install -r requirements.txt")
    lab.page.get_by_text("seaborn pandas>=2: installed").wait_for()
    lab.notebook("other.ipynb")
    lab.page.get_by_role("button", name="Keep in this notebook").click()
    lab.until(lambda: bool(job.asked))
    assert job.asked == [{"verb": "add", "path": "mine.ipynb", "packages": ["seaborn", "pandas>=2"]}]
    lab.notebook("mine.ipynb")
    cell = lab.run("'edited'")
    lock(notebook)
    job.state = "done"
    lab.until(lambda: "'edited'" in notebook.read_text())
    assert json.loads(notebook.read_text())["metadata"]["tfgpu"] == GOOD
    expect(cell.locator(".cm-content")).to_have_text("'edited'")
    lab.no_dialog()

    job.state = "running"
    lab.command("tfgpu:share")
    lab.until(lambda: job.asked[-1]["verb"] == "lock")
    lab.run("'edited again'")
    lock(notebook)
    job.state = "done"
    lab.page.get_by_role("button", name="Keep My Edits").click()
    expect(cell.locator(".cm-content")).to_have_text("'edited again'")

    job.refusal = "It is being verified."
    lab.command("tfgpu:verify")
    lab.page.get_by_role("button", name="Overwrite").click()  # Jupyter's own question: the file holds the lock
    expect(lab.page.get_by_text(job.refusal)).to_be_visible()

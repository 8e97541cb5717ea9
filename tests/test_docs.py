"""The documentation keeps up with the code."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfgpu_kernel.cli import VERBS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_generated_parts_are_current() -> None:
    """The tables of settings and errors are what the code says; `python docs/generate.py` renews them."""
    generated = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    assert len(generated) == 3
    for page, text in generated.items():
        assert page.read_text() == text, f"{page.name} is not current: run python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to another page of ours names a file, and a heading in it, that are there."""
    for target, heading in _links(page):
        assert target.exists(), f"{page.name} links to {target}, which is not there"
        if heading:
            assert heading in _headings(target), f"{page.name} links to #{heading}, not in {target.name}"


def test_every_verb_is_described() -> None:
    """The README names every verb of the command line, and none that isn't there."""
    named = set(re.findall(r"^\| `jupyter tfgpu (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == set(VERBS)


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in link:
            name, _, heading = link.partition("#")
            yield (page.parent / name if name else page), heading


def _headings(page: Path) -> set[str]:
    """Return a page's headings as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

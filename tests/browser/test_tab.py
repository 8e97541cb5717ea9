"""What a browser test rests on: an error in the console fails it, and a failure leaves what one needs to see why."""

from __future__ import annotations

import contextlib

import pytest
from playwright.sync_api import Browser

from .conftest import KEPT, tab
from .serving import Server


@pytest.mark.parametrize("planted", ["console.error('planted')", "setTimeout(() => { throw new Error('planted'); })"])
def test_an_error_on_the_page_fails_the_test(
    server: Server, browser: Browser, request: pytest.FixtureRequest, planted: str
) -> None:
    """Whether logged or thrown; picture, console and the server's log are kept under the test's name."""
    for file in KEPT.glob("test_an_error_on_the_page*"):
        file.unlink()
    with pytest.raises(AssertionError, match="the console told of errors"):
        with contextlib.contextmanager(tab)(server, browser, request) as lab:
            lab.page.evaluate(f"() => {{ {planted} }}")
            lab.until(lambda: bool(lab.errors))
    kept = {file.suffixes[-1]: file for file in KEPT.glob("test_an_error_on_the_page*")}
    assert len(list(KEPT.glob("test_an_error_on_the_page*"))) == 3
    assert kept[".png"].read_bytes().startswith(b"\x89PNG")
    assert any("planted" in file.read_text() for file in KEPT.glob("test_an_error_on_the_page*.console.log"))
    assert any("ServerApp" in file.read_text() for file in KEPT.glob("test_an_error_on_the_page*.server.log"))

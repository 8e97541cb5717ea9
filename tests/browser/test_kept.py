"""What a page that is loaded anew shows of a request of the page before it; the server's answer is the test's."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from .page import Lab
from .serving import Server


@pytest.mark.nightly
def test_a_cell_of_a_former_page_ends_with_its_kernel(lab: Lab, server: Server) -> None:
    """It is shown as running, with what it had printed, until the kernel is restarted; that ends no request.

    The server is told that the page has the output once it has it.
    """
    asked: list[str] = []
    message = {"id": "m1", "type": "stream", "content": {"name": "stdout", "text": "before\n"}}
    found = {"cell_id": "cell-0", "msg_id": "r1", "whole": True, "messages": [message]}

    def answer(route: Route) -> None:
        asked.append(route.request.method)
        if route.request.method == "GET":
            route.fulfill(json={"requests": [found]})
        else:
            route.fulfill(status=204)

    lab.page.route("**/tfgpu/kept/**", answer)
    server.notebook("former.ipynb", "train()", kernel="slim")
    kernel = {"path": "former.ipynb", "name": "former.ipynb", "type": "notebook", "kernel": {"name": "slim"}}
    assert server.ask("POST", "api/sessions", json=kernel).ok
    panel = lab.notebook("former.ipynb")
    expect(panel.locator(".jp-OutputArea-output")).to_have_text("before")
    expect(panel.locator(".jp-InputPrompt").first).to_have_text("[*]:")
    lab.until(lambda: asked == ["GET", "DELETE"])
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    expect(panel.locator(".jp-InputPrompt").first).to_have_text("[ ]:")

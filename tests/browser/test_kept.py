"""What a page that is loaded anew shows of a request of the page before it; the server's answer is the test's."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tfgpu_kernel.asked import fingerprint

from .page import Lab
from .serving import Server


@pytest.mark.nightly
def test_a_cell_of_a_former_page_ends_with_its_kernel(lab: Lab, server: Server) -> None:
    """It is shown as running, with what it had printed, until the kernel is restarted; that ends no request.

    The server is told that the page has the output once it has it.
    """
    asked: list[str] = []
    message = {"id": "m1", "type": "stream", "content": {"name": "stdout", "text": "before\n"}}
    found = {"cell_id": "cell-0", "code": "", "msg_id": "r1", "whole": True, "messages": [message]}

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


def test_without_ids_a_cell_is_found_by_its_code(lab: Lab, server: Server) -> None:
    """Below nbformat 4.5 each page makes ids up, so a cell is told by its code; what has no cell stays on the server.

    The server is told of nothing where nothing found its cell. A notice shows the output that has none.
    """
    asked: list[tuple[str, Any]] = []

    def request(name: str, code: str) -> dict[str, object]:
        message = {"id": f"m-{name}", "type": "stream", "content": {"name": "stdout", "text": f"of {name}\n"}}
        found = {"cell_id": f"once-{name}", "code": fingerprint(code), "msg_id": name}
        return {**found, "whole": True, "messages": [message]}

    answers = [request("lost", "edited()")]

    def answer(route: Route) -> None:
        asked.append((route.request.method, route.request.post_data_json))
        if route.request.method == "GET":
            route.fulfill(json={"requests": answers})
        else:
            route.fulfill(status=204)

    lab.page.route("**/tfgpu/kept/**", answer)
    server.notebook("old.ipynb", "x = 1", "train('Ä')", "train('Ä')", "y", kernel="slim", minor=4)
    kernel = {"path": "old.ipynb", "name": "old.ipynb", "type": "notebook", "kernel": {"name": "slim"}}
    assert server.ask("POST", "api/sessions", json=kernel).ok
    lab.notebook("old.ipynb")
    notice = lab.page.locator(".Toastify__toast", has_text="Output was kept")
    notice.get_by_role("button", name="Show Output").click()
    expect(lab.page.locator(".jp-Dialog pre")).to_have_text("of lost")
    lab.page.locator(".jp-Dialog").get_by_role("button", name="Close").last.click()
    assert asked == [("GET", None)]
    answers += [request("first", "train('Ä')"), request("second", "train('Ä')"), request("last", "y")]
    lab.remembered("old.ipynb")
    lab.reload()
    panel = lab.notebook("old.ipynb")
    expect(panel.locator(".jp-OutputArea-output")).to_have_text(["of first", "of second", "of last"])
    expect(panel.locator(".jp-InputPrompt")).to_have_text(["[ ]:", "[*]:", "[*]:", "[*]:"])
    lab.until(lambda: len(asked) == 3)
    assert asked[1:] == [("GET", None), ("DELETE", {"left": ["lost"]})]

"""JupyterLab in a browser's tab, as tests handle it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from .serving import Server

_REPOSITORY: Final = Path(__file__).parents[2]
IMAGES: Final = _REPOSITORY / ("docs/images" if os.environ.get("TFGPU_SCREENSHOTS") else "build/browser/images")
"""Where pictures for the documentation go; into docs/ only when TFGPU_SCREENSHOTS is set (``make screenshots``)."""
_AXE: Final = _REPOSITORY / "labextension/node_modules/axe-core/axe.min.js"
LOAD_MS: Final = 60_000
KERNEL_MS: Final = 60_000
_BROKEN_OFF: Final = re.compile("ERR_|Failed to fetch|WebSocket is closed before")


@dataclass
class Lab:
    """One tab. What its console tells is kept; an error there that was not announced fails the test."""

    page: Page
    server: Server
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _expected: list[re.Pattern[str]] = field(default_factory=list)
    _leaving: bool = False

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self._note(f"uncaught: {error}"))

    def expect_error(self, pattern: str) -> None:
        """Announce an error of the console's, such as the browser's own word on an answer of 500."""
        self._expected.append(re.compile(pattern))

    @property
    def unexpected(self) -> list[str]:
        """The errors that nobody announced."""
        return [text for text in self.errors if not any(known.search(text) for known in self._expected)]

    def open(self, path: str = "lab?reset") -> None:
        """Load JupyterLab and wait until it is there."""
        joined = "&" if "?" in path else "?"
        with self._left():
            self.page.goto(f"{self.server.url}{path}{joined}token={self.server.token}")
        self.ready()

    def reload(self) -> None:
        """Load the page anew, and wait until it is there."""
        with self._left():
            self.page.reload()
        self.ready()

    @contextmanager
    def _left(self) -> Iterator[None]:
        """Take no notice of what a page complains of as it is left: what it had asked for is broken off."""
        self._leaving = True
        yield
        self._leaving = False

    def ready(self) -> None:
        """Wait until the application stands."""
        self.page.wait_for_function("() => window.jupyterapp !== undefined", timeout=LOAD_MS)
        self.page.evaluate("() => window.jupyterapp.restored")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=LOAD_MS)

    def command(self, name: str, **arguments: Any) -> None:
        """Run one of the application's commands, without waiting for its end."""
        self.page.evaluate(
            "([name, args]) => { window.jupyterapp.commands.execute(name, args).catch(() => undefined); }",
            [name, arguments],
        )

    def launch(self, display_name: str) -> None:
        """Choose a kernel for a notebook in the launcher."""
        self.page.locator(f".jp-LauncherCard[title^='{display_name}'][data-category='Notebook']").first.click()

    def notebook(self, path: str) -> Locator:
        """Open a notebook of the server's root, with the kernel that it names."""
        self.command("docmanager:open", path=path)
        # another notebook may be visible still
        self.page.wait_for_function(
            "path => window.jupyterapp.shell.currentWidget?.context?.path === path", arg=path, timeout=LOAD_MS
        )
        panel = self.page.locator(".jp-NotebookPanel:visible")
        panel.wait_for(timeout=LOAD_MS)
        return panel

    def remembered(self, path: str) -> None:
        """Wait until JupyterLab has stored that this notebook is open, so that a page loaded anew shows it."""
        folder = self.server.folder / "workspaces"
        for _ in range(100):
            if any(path in file.read_text() for file in folder.iterdir()):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{path} is in no workspace")

    @property
    def banner(self) -> Locator:
        """What stands above the visible notebook: the progress of its kernel's launch, or what went wrong."""
        return self.page.locator(".jp-NotebookPanel:visible .tfgpu-Banner")

    def idle(self, timeout: int = KERNEL_MS) -> None:
        """Wait until the visible notebook's kernel runs and has nothing to do."""
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
            " && window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.connectionStatus === 'connected'",
            timeout=timeout,
        )

    def run(self, code: str) -> Locator:
        """Run code in the visible notebook's last cell; return that cell."""
        cell = self.page.locator(".jp-NotebookPanel:visible .jp-CodeCell").last
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("ControlOrMeta+Enter")
        return cell

    def no_dialog(self) -> None:
        """See that no dialog covers the page; the error quotes one that does."""
        expect(self.page.locator(".jp-Dialog")).to_have_text([])

    def type_in_terminal(self, line: str) -> None:
        """Type a line into the visible terminal, once it has a prompt."""
        # What a terminal shows is drawn on a canvas; its lines are where xterm keeps them.
        self.page.wait_for_function(
            "() => /[$#]/.test("
            "window.jupyterapp.shell.currentWidget.content._term?.buffer.active.getLine(0)?.translateToString() ?? '')"
        )
        self.page.locator(".jp-Terminal:visible .xterm-screen").click()
        self.page.keyboard.type(f"{line}\n")

    def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for what is to be so outside of the page."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
            self.page.wait_for_timeout(100)

    def theme(self, *, dark: bool) -> None:
        """Change to JupyterLab's light or dark theme."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            "JupyterLab Dark" if dark else "JupyterLab Light",
        )
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", "false" if dark else "true")
        self.page.wait_for_timeout(300)

    def violations(self, *parts: str) -> list[str]:
        """Return what axe finds wrong with parts of the page, which selectors name."""
        self.page.add_script_tag(path=_AXE)
        found: list[dict[str, Any]] = self.page.evaluate(
            "async parts => (await window.axe.run({ include: parts })).violations", [[part] for part in parts]
        )
        return [f"{rule['id']}: {node['html']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]

    def picture(self, name: str, part: Locator | None = None) -> None:
        """Take a picture for the documentation in both themes: ``name-light.png`` and ``name-dark.png``."""
        IMAGES.mkdir(parents=True, exist_ok=True)
        for theme in ("dark", "light"):
            self.theme(dark=theme == "dark")
            (part or self.page).screenshot(path=IMAGES / f"{name}-{theme}.png", animations="disabled")

    def _hear(self, message: ConsoleMessage) -> None:
        line = f"{message.type}: {message.text} ({message.location.get('url', '')})"
        self.console.append(line)
        if message.type == "error":
            self._note(line)

    def _note(self, text: str) -> None:
        if not (self._leaving and _BROKEN_OFF.search(text)):
            self.errors.append(text)

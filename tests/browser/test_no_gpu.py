"""What a person sees on a machine with no GPU."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .page import Lab


def test_no_gpu_says_why(lab: Lab) -> None:
    """The status bar says that there is none, with the reason, and so does the panel."""
    item = lab.page.locator(".tfgpu-Status-button:visible")
    expect(item).to_have_text("No GPU")
    expect(item).to_have_attribute("title", re.compile("There is no NVIDIA driver"))
    lab.command("tfgpu:open-panel")
    reason = "There is no NVIDIA driver (libnvidia-ml.so.1 was not found)."
    expect(lab.page.locator("#tfgpu-panel")).to_contain_text(reason)


def test_a_click_leads_to_the_ladder(lab: Lab) -> None:
    """The status bar's click examines the machine: each rung with its state, the lowest broken one with its remedy."""
    lab.page.locator(".tfgpu-Status-button:visible").click()
    doctor = lab.page.get_by_role("tabpanel", name="Doctor")
    ladder = doctor.get_by_role("region", name="The way to the GPU").get_by_role("listitem")
    expect(ladder).to_have_count(8)
    driver = ladder.filter(has_text="kernel driver").first
    expect(driver.get_by_role("img", name="broken")).to_be_visible()
    expect(driver).to_contain_text("What to do:")
    expect(ladder.last).to_contain_text("Not looked at: kernel driver comes first.")
    beside = doctor.get_by_role("region", name="Beside it")
    expect(beside.get_by_role("listitem").first).to_contain_text("answers, and this user may use it")
    expect(doctor.get_by_role("status")).to_have_text("To mend first: kernel driver.")
    driver.get_by_role("button", name="Copy").click()
    expect(driver.get_by_role("button", name="Copied")).to_be_visible()
    lab.picture("doctor", doctor)
    with lab.page.expect_response(lambda answer: answer.request.method == "POST" and "doctor" in answer.url) as again:
        doctor.get_by_role("button", name="Run Again").click()
    assert again.value.json()["ended"] is None
    expect(ladder).to_have_count(8)
    command = "() => window.jupyterapp.commands.label('tfgpu:doctor')"
    assert lab.page.evaluate(command) == "Find Out What Is Missing for GPUs"


def test_the_doctor_is_in_menu_and_palette(lab: Lab) -> None:
    """What a click finds, a keyboard finds, too: Help's menu and the palette have the command."""
    lab.page.locator(".lm-MenuBar-item", has_text="Help").click()
    expect(lab.page.locator(".lm-Menu-item[data-command='tfgpu:doctor']")).to_be_visible()
    lab.page.keyboard.press("Escape")
    lab.command("apputils:activate-command-palette")
    lab.page.locator(".lm-CommandPalette-input").fill("missing for GPUs")
    lab.page.keyboard.press("Enter")
    expect(lab.page.get_by_role("tabpanel", name="Doctor")).to_be_visible()

"""``jupyter tfgpu install``: where the kernelspec goes, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfgpu_kernel.cli import main


@pytest.mark.parametrize("shadowed", [True, False])
def test_a_kernelspec_that_jupyter_would_not_find_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shadowed: bool
) -> None:
    """An environment's kernelspec comes before the user's of the same name: whoever installs one hears of it."""
    environment = tmp_path / "environment"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("JUPYTER_PATH", str(environment))
    if shadowed:
        (environment / "kernels/mine").mkdir(parents=True)
        (environment / "kernels/mine/kernel.json").write_text("{}")
    assert main(["install", "--name", "mine", "--user"]) == 0
    assert (tmp_path / "user/kernels/mine/kernel.json").is_file()
    told = capsys.readouterr().err
    assert (str(environment / "kernels/mine") in told and "--sys-prefix" in told) == shadowed
    assert bool(told) == shadowed

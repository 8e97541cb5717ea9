"""Modules imported ahead: hidden until they are imported, and each brings back no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

MODULES = {
    "heavy/__init__.py": "import light, needy, warnings, os\nprint('heavy is loaded')\n"
    "os.write(1, b'by itself\\n')\nfrom heavy import part\n"
    "os.environ['HEAVY'] = '1'\nwarnings.filterwarnings('ignore', 'x')",
    "heavy/part.py": "",
    "light.py": "import lighter\nvalue = lighter.value",
    "lighter.py": "value = 1",
    "needy.py": "import heavy",
}

Said = Callable[[str], str]


@pytest.fixture
def said(tmp_path: Path) -> Said:
    """Return a function that runs code in a Python that has ``heavy`` preloaded, and returns what it prints."""
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = dedent(f"""
        import os, sys, warnings
        sys.path.insert(0, {str(tmp_path)!r})
        from tfgpu_kernel.boot.stash import Stash
        told = []
        stash = Stash(lambda unit: told.append(unit.name))
        stash.preload(["heavy"])
        def there(): return sorted(set(sys.modules) & {{"heavy", "heavy.part", "light", "lighter", "needy"}})
    """)

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", before + dedent(code)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_nothing_shows_before_the_first_import(said: Said) -> None:
    """Modules, variables, filters and output of what was preloaded are out of sight, whoever only asks for a spec."""
    code = """
        import importlib.util
        print(importlib.util.find_spec("heavy").name, there(), "HEAVY" in os.environ, len(warnings.filters), told)
    """
    count = [sys.executable, "-c", "import warnings; print(len(warnings.filters))"]
    filters = int(subprocess.check_output(count))
    assert said(code) == f"heavy [] False {filters} []\n"


def test_first_import_brings_all_back(said: Said) -> None:
    """The import prints what it would have printed, and all that came with it is there."""
    code = "import heavy\nprint(there(), os.environ['HEAVY'], told, stash in sys.meta_path, heavy.__spec__.loader)"
    *first, second = said(code).splitlines()
    assert sorted(first) == ["by itself", "heavy is loaded"]
    assert second.startswith("['heavy', 'heavy.part', 'light', 'lighter', 'needy'] 1 ['heavy'] False <_frozen")


def test_package_that_needs_less_comes_back_alone(said: Said) -> None:
    """What came along and doesn't need the preloaded module brings back only its own needs, and says nothing."""
    assert said("import light\nprint(there(), light.value, told)") == "['light', 'lighter'] 1 []\n"
    assert said("import lighter\nprint(there())") == "['lighter']\n"


def test_package_that_needs_it_brings_it_back(said: Said) -> None:
    """What refers to the preloaded module can't be there without it."""
    assert said("import needy\nprint(there(), told)").startswith(("heavy is loaded\n", "by itself\n"))

"""Modules imported ahead: hidden until they are imported, and each brings back no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

MODULES = {
    "heavy/__init__.py": "import light, needy, solid, warnings, os\nprint('heavy is loaded')\n"
    "os.write(1, b'by itself\\n')\nfrom heavy import part\n"
    "os.environ['HEAVY'] = '1'\nwarnings.filterwarnings('ignore', 'x')",
    "heavy/part.py": "",
    "light.py": "import lighter\nvalue = lighter.value",
    "lighter.py": "value = 1",
    "needy.py": "import heavy",
    "tensorflow.py": "import logging, sys\nlogger = logging.getLogger('tensorflow')\nif not logging.root.handlers:\n"
    "    logger.setLevel(logging.INFO)\n    logger.addHandler(logging.StreamHandler(sys.stdout))",
    "solid/__init__.py": "import sys, types\nvalue = 'image'\nsys.modules['solid._c'] = types.ModuleType('solid._c')\n"
    "sys.modules['solid._c'].__file__ = 'solid/_c.abi3.so'",
    "lean.py": "import logging\nlogging.root.addHandler(logging.StreamHandler())",
}

Said = Callable[[str], str]


@pytest.fixture
def said(tmp_path: Path) -> Said:
    """Return a function that runs code in a Python that has ``heavy`` preloaded, and returns what it prints."""
    for name, text in MODULES.items():
        (tmp_path / "image" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "image" / name).write_text(text)
    before = dedent(f"""
        import os, sys, warnings
        sys.path.insert(0, {str(tmp_path / "image")!r})
        from tfgpu_kernel.boot.stash import Stash
        told = []
        stash = Stash(lambda unit: told.append(unit.name), lambda packages: told.append(packages))
        sys.ps1 = ">"
        stash.preload(["heavy"])
        def there(): return sorted(set(sys.modules) & {{"heavy", "heavy.part", "light", "lighter", "needy"}})
    """)

    def run(code: str) -> str:
        command = [sys.executable, "-c", before + dedent(code)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
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


OWN = """
    os.makedirs("own/light")
    for name in ("light/__init__", "light/part", "heavy", "needy"):
        open("own/" + name + ".py", "w").write("value = 'own'")
    sys.path.insert(0, "own")
"""


def test_what_a_cell_has_on_its_path_is_imported(said: Said) -> None:
    """A package that sys.path finds elsewhere by now is that one, with its own modules, and nothing comes back."""
    code = "import light.part\nprint(light.value, light.part.value, told, there())"
    assert said(dedent(OWN) + code) == "own own [] ['light']\n"


def test_what_was_loaded_ahead_with_another_is_told(said: Said) -> None:
    """What needs the preloaded module stays the image's, and a line tells it; so do others that it was loaded with."""
    code = "import needy, light\nprint(hasattr(needy, 'value'), light.value, told[0], sorted(told[1]))"
    *_, last = said(dedent(OWN) + code).splitlines()
    assert last == "False own heavy ['heavy', 'light', 'needy']"


def test_native_code_is_not_loaded_twice(said: Said) -> None:
    """A package with native code stays the image's where another build of it comes first now, which is told."""
    code = """
        for kind in "", "_c.abi3.so":
            os.makedirs("own/solid", exist_ok=True)
            open("own/solid/__init__.py", "w").write("value = 'own'")
            if kind: open("own/solid/" + kind, "w")
            sys.path[:] = ["own", *sys.path]
            print(importlib.util.find_spec("solid").origin.startswith(os.getcwd() + "/image"), told)
        import solid
        print(solid.value, told)
    """
    first, second, last = said("import importlib.util\n" + dedent(code)).splitlines()
    assert (first, second) == ("False []", "True []")
    assert last.startswith("image [{'solid': '")


def test_path_that_finds_the_same_changes_nothing(said: Said) -> None:
    """A folder on sys.path under another name finds the same package: what was imported ahead comes back."""
    code = "os.symlink(sys.path[0], 'link'); sys.path.insert(0, 'link')\nimport heavy\nprint(told)"
    assert said(code).splitlines()[-1] == "['heavy']"


LOGGER = (
    "logger = logging.getLogger('tensorflow')\nprint(logger.level, len(logger.handlers), len(logging.root.handlers))\n"
)


def test_logger_of_its_own_has_a_handler_where_none_is_set_up(said: Said) -> None:
    """TensorFlow's logger is untouched before the import, and has its handler and level after it."""
    code = "import logging\nstash.preload(['tensorflow'])\n" + LOGGER + "import tensorflow\n" + LOGGER
    assert said(code).splitlines() == ["0 0 0", "20 1 0"]


def test_logger_has_no_handler_beside_those_of_a_cell(said: Said) -> None:
    """After logging.basicConfig() TensorFlow's logger stays as it is: no line comes twice."""
    code = "import logging\nstash.preload(['tensorflow'])\nlogging.basicConfig(level=30)\nimport tensorflow\n" + LOGGER
    assert said(code).splitlines() == ["0 0 1"]


def test_root_logger_is_a_cells_to_set_up(said: Said) -> None:
    """What sets up the root logger at its import has not done so before a cell's basicConfig()."""
    code = "import logging\nstash.preload(['lean'])\nlogging.basicConfig(level=10)\nimport lean\n"
    assert said(code + "print(logging.root.level, len(logging.root.handlers))") == "10 1\n"

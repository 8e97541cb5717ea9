"""``pip`` as cells call it: the image's own pip, with words of ours where it must not do what was asked."""

import glob
import importlib.util
import os
import re
import subprocess
import sys
from typing import Dict, List, Optional, Sequence

from .here import CONSTRAINTS, elsewhere

_CONFLICT = re.compile(
    r"\(constraint\) ([\w.-]+)==|you'll have ([\w.-]+) \S+ which is incompatible|"
    r"but you have ([\w.-]+) \S+ which is incompatible|No matching distribution found for ([\w.-]+)"
)
# In a virtual environment pip would remove or upgrade nothing that lies outside of it, as the notebook's folder does.
_RUN = """
import runpy, sys
sys.path += filter(None, [sys.argv.pop(1)])
sys.base_prefix = sys.prefix
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_ASKED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,-]*\])?\s*((?:[<>=!~]=?=?).+)$")
_KEPT = 20000  # characters of pip's last words that are looked through


def main(arguments: Sequence[str]) -> int:
    """Run pip, pass on what it says, and add a line where the image's packages stand against it."""
    # What is installed here is the user's own already; with --user pip would refuse to.
    beside = "" if importlib.util.find_spec("pip") else bundled()
    if beside is None:
        sys.stderr.write('tfgpu: this image has no pip: set packages = ["pip"], or take another image.\n')
        return 1
    command = [sys.executable, "-u", "-c", _RUN, beside] + [word for word in arguments if word != "--user"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = b""
    while True:
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        os.write(1, chunk)
        said = (said + chunk)[-_KEPT:]
    code = process.wait()
    text = said.decode("utf-8", "replace")
    for word in meant(arguments) if code and "Invalid requirement" in text else []:
        sys.stderr.write("tfgpu: pip writes a version with two equals signs: %s\n" % word)
    known = {} if elsewhere(arguments) == "--target" else constraints()
    kept = dict.fromkeys(held(text, known) + unmet(arguments, known))
    if kept:
        sys.stderr.write(
            "tfgpu: the image's packages stay as they are, here %s; for another version take another image, or install "
            "into an environment of your own (python -m venv).\n" % ", ".join(kept)
        )
    return code


def bundled() -> Optional[str]:
    """Return the pip that Python itself brings, for environments made without one, as uv makes them."""
    try:
        import ensurepip
    except ImportError:
        return None
    folders = (os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"), "/usr/share/python-wheels")
    found = [path for folder in folders for path in glob.glob(os.path.join(folder, "pip-*.whl"))]
    return found[0] if found else None


def constraints() -> Dict[str, str]:
    """Return the image's packages, name -> version."""
    try:
        with open(CONSTRAINTS) as file:
            return dict(line.strip().split("==", 1) for line in file if "==" in line)
    except OSError:
        return {}


def held(text: str, known: Dict[str, str]) -> List[str]:
    """Return those of the image's packages, as ``name version``, that pip says are in the way."""
    names: Dict[str, None] = {}
    for groups in _CONFLICT.findall(text):
        name = re.sub(r"[-_.]+", "-", "".join(groups)).lower()
        if name in known:
            names[name] = None
    return ["%s %s" % (name, known[name]) for name in names]


def unmet(arguments: Sequence[str], known: Dict[str, str]) -> List[str]:
    """Return the image's packages that were asked for in another version: pip before 20.3 takes them as they are."""
    found = []
    for word in arguments:
        asked = _ASKED.match(word)
        name = re.sub(r"[-_.]+", "-", asked.group(1)).lower() if asked else ""
        if asked and name in known:
            try:
                from pip._vendor.packaging.specifiers import SpecifierSet

                met = SpecifierSet(asked.group(2)).contains(known[name], prereleases=True)
            except (ImportError, ValueError):  # it is no version, as pip says itself
                continue
            if not met:
                found.append("%s %s" % (name, known[name]))
    return found


def meant(arguments: Sequence[str]) -> List[str]:
    """Return what conda's habit of one equals sign (``numpy=1.26``) means to pip."""
    pairs = [re.match(r"([A-Za-z0-9][\w.-]*(?:\[[\w,-]*\])?)=([\w.*+!]+)$", word) for word in arguments]
    return ["%s==%s" % pair.groups() for pair in pairs if pair]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

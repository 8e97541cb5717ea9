"""The built lab extension: small, and whole in what it promises."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
BUILT: Final = ROOT / "tfgpu_kernel/labextension"
SOURCES: Final = ROOT / "labextension"

pytestmark = pytest.mark.skipif(not (BUILT / "static").is_dir(), reason="the lab extension is not built (make setup)")


def test_the_bundle_is_small() -> None:
    """All that a browser loads of it is at most 60 KB compressed: no chart library, nothing that Lab has."""
    sizes = {file.name: len(gzip.compress(file.read_bytes())) for file in (BUILT / "static").glob("*.js")}
    assert 0 < sum(sizes.values()) <= 60_000, sizes


def test_each_settings_page_belongs_to_a_plugin() -> None:
    """JupyterLab finds a settings page by its plugin's id, so each schema has a plugin of its name."""
    ids = set(re.findall(r"'@tfgpu/labextension:(\w+)'", "".join(f.read_text() for f in SOURCES.glob("src/*.ts*"))))
    for schema in (SOURCES / "schema").glob("*.json"):
        assert schema.stem in ids
        assert json.loads(schema.read_text())["title"]


def test_the_sources_keep_the_house_rules() -> None:
    """No ``any``, no console, and only request.ts knows addresses."""
    for file in SOURCES.glob("src/*.ts*"):
        text = file.read_text()
        assert not re.search(r":\s*any\b|<any>|as any\b|console\.", text), file.name
        if file.name != "request.ts":
            assert "makeRequest" not in text and "URLExt" not in text, file.name


def test_what_people_read_can_be_translated() -> None:
    """No words stand in the markup or in a label as they are: all go through ``trans``."""
    words = re.compile(
        r"""<(?!/)[^<>{}]*>\s*[A-Za-z]{3,}[^<>{}=]*</"""
        r"""|\b(?:title|label|caption|placeholder|aria-label|alt)(?:=|:\s*)['"][A-Z]"""
        r"""|(?:Notification\.\w+|showErrorMessage)\(\s*['"`]"""
    )
    for file in SOURCES.glob("src/*.ts*"):
        found = words.search(file.read_text())
        assert not found, f"{file.name}: {found[0] if found else ''}"
    assert words.search("<p className='a'>Words</p>") and words.search("label: 'Open'")


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs it")
def test_only_packages_by_name_are_offered_to_be_kept(tmp_path: Path) -> None:
    """A pip install is read as the shell reads it; one that names files, addresses or indexes is not offered."""
    module = shutil.copy(SOURCES / "lib/packages.js", tmp_path / "packages.mjs")
    lines = {
        "seaborn": ["seaborn"],
        "-q -U \"pandas>=2,<3\" jax[cpu] 'a[b, c]==1.*'  # why": ["pandas>=2,<3", "jax[cpu]", "a[b, c]==1.*"],
        "seaborn; rm -rf x": ["seaborn"],
        "seaborn && ls": ["seaborn"],
        "seaborn | tail": ["seaborn"],
        "\"pandas; python_version<'3.9'\"": None,
        **dict.fromkeys(
            ("-r requirements.txt", "seaborn -c c.txt", "-e .", "-i https://x seaborn", "--index-url=https://x seaborn",
             "-f wheels seaborn", "--pre seaborn", ".", "./x", "git+https://x#egg=y", "x.whl", "'x @ https://y'",
             "{name}", "$name"),
        ),
    }  # fmt: skip
    script = (
        f"import {{ requirements }} from {json.dumps(str(module))};"
        f"console.log(JSON.stringify({json.dumps(list(lines))}.map(requirements)))"
    )
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, check=True, text=True)
    assert dict(zip(lines, json.loads(done.stdout), strict=True)) == lines

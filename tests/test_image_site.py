"""What the host lends a container so that pip works there as it does here."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from tfgpu_kernel.image import site

AT = PurePosixPath("/lent")


def test_files_then_environment(tmp_path: Path) -> None:
    """Settings come from pip's files, and the environment goes first; options of the host's own stay here."""
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://mirror.example/simple\ntimeout = 20\n"
        "[install]\nuser = true\ntarget = /somewhere\n"
    )
    found = site.find({"HOME": str(tmp_path), "PIP_TIMEOUT": "90", "https_proxy": "http://proxy.example:3128"})
    assert found.settings["index-url"] == "https://mirror.example/simple"
    assert found.settings["timeout"] == "90"
    assert not {"user", "target"} & set(found.settings)
    assert found.environment(AT)["https_proxy"] == "http://proxy.example:3128"
    assert found.environment(AT)["PIP_CONFIG_FILE"] == "/lent/pip.conf"


def test_no_files_at_all(tmp_path: Path) -> None:
    """PIP_CONFIG_FILE=/dev/null means for us what it means for pip."""
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://mirror.example/simple\n")
    found = site.find({"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull})
    assert found.settings == {}


def test_folders_are_lent_and_named_anew(tmp_path: Path) -> None:
    """An index or a folder of wheels on this machine is lent, and the settings name where it is lent."""
    (tmp_path / "index/simple").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "ca.pem").write_text("certificates")
    found = site.find(
        {
            "HOME": str(tmp_path),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "https://mirror.example/simple",
            "PIP_EXTRA_INDEX_URL": f"file://{tmp_path}/index/simple",
            "PIP_FIND_LINKS": f"{tmp_path}/wheels https://wheels.example/",
            "PIP_CERT": f"{tmp_path}/ca.pem",
        }
    )
    assert found.lend(AT) == (
        site.Lent(tmp_path / "index", AT / "packages-0"),
        site.Lent(tmp_path / "wheels", AT / "packages-1"),
        site.Lent(tmp_path / "ca.pem", AT / "ca.crt"),
    )
    assert found.config(AT).splitlines() == [
        "[global]",
        "extra-index-url = file:///lent/packages-0/simple",
        "find-links = /lent/packages-1 https://wheels.example/",
        "index-url = https://mirror.example/simple",
        "cert = /lent/ca.crt",
    ]
    assert found.environment(AT)["SSL_CERT_FILE"] == "/lent/ca.crt"


def test_broken_file_is_passed_over(tmp_path: Path) -> None:
    """A pip.conf that can't be read is pip's business on the host; the rest still counts."""
    (tmp_path / "pip.conf").write_text("no section\n")
    found = site.find({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_RETRIES": "2"})
    assert found.settings["retries"] == "2"

"""The images that live tests run on, made from Debian's and PyPI's packages: no registry is asked.

``python tests/images/recipes.py slim frozen`` makes them by hand, ``--list`` names them; fixtures call
:func:`ensure`. All share one base; each is made once, and again only when its recipe has changed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tfgpu_kernel.image import debian, site

REPOSITORY = "tfgpu-test"
RECIPE = "tfgpu-test.recipe"
BASE_PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
SITE = PurePosixPath("/tmp/site")


class RecipeUnavailable(Exception):
    """The machine lacks something that the recipe needs, such as pyenv's Python 3.6; says what."""


@dataclass(frozen=True)
class Recipe:
    """One image: what is run as root in a container of another image, and what is then written into it."""

    base: str
    script: str = ""
    changes: tuple[str, ...] = ()
    python: str = ""
    """A version that pyenv has on this machine; it becomes the image's ``python3``, under /opt."""
    root: str = ""
    """A folder that becomes the image, all else of the container left out."""


def with_python(version: str, script: str, changes: Sequence[str] = ()) -> Recipe:
    """Return a recipe for an image shaped like TensorFlow's official ones, with an interpreter of pyenv's.

    Those run as root in ``/`` with no entrypoint and no ipykernel, have ``python`` and ``pip`` on the PATH,
    and ask for every GPU.
    """
    short = version.rpartition(".")[0]
    home = f"/opt/python{short}"
    three = f"ln -s {home}/bin/python{short} /usr/local/bin/python3" if short > "3" else "rm /usr/bin/python3*"
    return Recipe(
        "base",
        f"""
        echo {home}/lib >/etc/ld.so.conf.d/python.conf; ldconfig
        {three}
        ln -s {home}/bin/python{short} /usr/local/bin/python
        printf '#!/bin/sh\\nexec python -m pip "$@"\\n' >/usr/local/bin/pip
        chmod 755 /usr/local/bin/pip
        python -m ensurepip
        {script}
        """,
        (
            'CMD ["/bin/bash"]',
            "ENV LANG=C.UTF-8",
            "ENV NVIDIA_VISIBLE_DEVICES=all",
            "ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            *changes,
        ),
        python=version,
    )


RECIPES = {
    "base": Recipe("", changes=('CMD ["bash"]',)),
    # The smallest image a kernel runs in at once: lifecycle tests use it.
    "slim": Recipe("base", "pip install --break-system-packages ipykernel"),
    # A virtual environment, as many images have it, with a package that cells must not change.
    "venv": Recipe(
        "base",
        "python3 -m venv /opt/venv && /opt/venv/bin/pip install ipykernel 'numpy==1.26.*'",
        ("ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
    ),
    # As `COPY --from=builder /root/.local /root/.local` leaves it: ipykernel is there for root alone.
    "user-site": Recipe("base", "HOME=/root pip install --break-system-packages --user ipykernel"),
    # As uv makes environments: without pip, on a Python that could bring its own.
    "no-pip:venv": Recipe(
        "base",
        "python3 -m venv --without-pip /opt/venv",
        ("ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
    ),
    # Debian's bare python3: neither pip nor what could bring it.
    "no-pip:debian": Recipe(
        "base", "rm -rf /usr/lib/python3/dist-packages/pip* /usr/lib/python3.*/ensurepip /usr/share/python-wheels"
    ),
    # TensorFlow as pip installs it today into a system Python, without ipykernel.
    "tf:py311": Recipe("base", "pip install --break-system-packages 'tensorflow-cpu==2.21.*'"),
    # As images made for notebooks have it: nothing need be added. TensorFlow 2.21 no longer brings TensorBoard itself.
    "tf:whole": Recipe("tf:py311", "pip install --break-system-packages ipykernel matplotlib 'tensorboard==2.20.*'"),
    # tensorflow/tensorflow:latest-gpu-py3 as it was frozen in 2020, less CUDA.
    "frozen:py36": with_python(
        "3.6.15",
        # pip 20.0 would stop at the first wheel that is too new in an index that doesn't tell for which
        # Python its wheels are; a later one looks on. The image has 20.0, so it comes last.
        "pip install 'pip==21.3.1' 'setuptools<46' && "
        "pip install tensorflow==2.1.0 'numpy==1.18.*' 'protobuf<3.12' 'h5py<3' 'scipy==1.4.1' && "
        "pip install 'pip==20.0.2'",
    ),
    "tf:py39": with_python("3.9.18", "pip install tensorflow-cpu==2.20.*"),
    "no-python": Recipe("base", "rm -rf /usr/bin/python3* /usr/lib/python3*"),
    "exits": Recipe("base", changes=('ENTRYPOINT ["/bin/sh", "-c", "echo told to leave >&2; exit 3"]',)),
    "python2": with_python("2.7.18", ""),
    # As Alpine's images are: musl and busybox, nothing made for glibc. musl's loader tells it from others.
    "musl": Recipe(
        "base",
        """
        apt-get update -qq && apt-get install -y -qq musl busybox-static >/dev/null
        mkdir /musl /musl/bin /musl/lib /musl/etc /musl/tmp
        cp /bin/busybox /musl/bin/sh && cp /lib/ld-musl-*.so.1 /musl/lib/ && cp /etc/passwd /etc/group /musl/etc/
        """,
        root="/musl",
    ),
}


def reference(name: str) -> str:
    """Return the image's name in the engine: ``frozen:py36`` is ``tfgpu-test/frozen:py36``."""
    return f"{REPOSITORY}/{name}"


def ensure(name: str) -> str:
    """Make the image unless the engine has it as the recipe says; return its name.

    :raises RecipeUnavailable: where the machine lacks what the recipe needs.
    """
    if _there(name):
        return reference(name)
    with _lock():
        return _ensure(name)


def _there(name: str) -> bool:
    form = f'{{{{index .Config.Labels "{RECIPE}"}}}}'
    return _docker("image", "inspect", "-f", form, reference(name), check=False) == _fingerprint(name)


def _ensure(name: str) -> str:
    recipe = RECIPES[name]
    tag = reference(name)
    digest = _fingerprint(name)
    if _there(name):
        return tag
    home = _interpreter(recipe.python) if recipe.python else None
    print(f"making {tag}", file=sys.stderr, flush=True)
    changes = [*recipe.changes, f"LABEL {RECIPE}={digest}"]
    if not recipe.base:
        _bootstrap(tag, changes)
    else:
        _add_layer(_ensure(recipe.base), recipe.script, home, recipe.root, tag, changes)
    return tag


def _fingerprint(name: str) -> str:
    recipe = RECIPES[name]
    below = _fingerprint(recipe.base) if recipe.base else ""
    return hashlib.sha256(f"{recipe}{below}{BASE_PACKAGES}".encode()).hexdigest()[:16]


def _bootstrap(tag: str, changes: Sequence[str]) -> None:
    release = debian.host_release()
    if release is None or shutil.which("mmdebstrap") is None:
        raise RecipeUnavailable("test images need Debian or Ubuntu with mmdebstrap: apt-get install mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="tfgpu-base-") as folder:
        archive = os.path.join(folder, "root.tar")
        command = debian.command(release, debian.sources(release, release), BASE_PACKAGES, archive)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"mmdebstrap could not make {tag}: {done.stderr[-2000:]}")
        _docker("import", *_options("-c", changes), archive, tag)


def _add_layer(base: str, script: str, home: Path | None, root: str, tag: str, changes: Sequence[str]) -> None:
    """Run the script in a container of ``base`` and make an image of it.

    What the host lends (pip's settings, certificates, package folders) is below a volume at /tmp: mount
    points made there don't get into the image.
    """
    pip_site = site.find()
    lent = [f"{item.host}:{item.inside}:ro" for item in pip_site.lend(SITE)]
    exports = "; ".join(f"export {key}='{value}'" for key, value in pip_site.environment(SITE).items())
    with tempfile.TemporaryDirectory(prefix="tfgpu-layer-") as folder:
        config = Path(folder, "pip.conf")
        config.write_text(pip_site.config(SITE))
        container = _docker(
            "create", "--mount=type=volume,dst=/tmp", f"--volume={config}:{SITE}/pip.conf:ro",
            *_options("-v", lent), base, "sh", "-euc", f"{exports}; export PIP_CACHE_DIR=/tmp/cache; {script}",
        )  # fmt: skip
        try:
            if home is not None:
                _copy_interpreter(home, container)
            done = subprocess.run(
                ["docker", "start", "--attach", container], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{tag}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
            ours = () if any(change.startswith("CMD") for change in changes) else ('CMD ["bash"]',)
            if root:
                _import_folder(container, root, tag, [*ours, *changes])
            else:
                _docker("commit", *_options("-c", [*ours, *changes]), container, tag)
        finally:
            _docker("rm", "--force", "--volumes", container)


def _import_folder(container: str, root: str, tag: str, changes: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="tfgpu-root-") as folder:
        subprocess.run(["docker", "cp", f"{container}:{root}/.", f"{folder}/root"], check=True)
        archive = os.path.join(folder, "root.tar")
        subprocess.run(
            [
                "tar",
                "--create",
                "--file",
                archive,
                "--directory",
                f"{folder}/root",
                "--owner=0",
                "--group=0",
                ".",
            ],
            check=True,
        )
        _docker("import", *_options("-c", changes), archive, tag)


def _copy_interpreter(home: Path, container: str) -> None:
    """Put pyenv's interpreter under /opt, owned by root and readable by all, less its own test-suite."""
    target = f"opt/python{home.name.rpartition('.')[0]}"
    tar = subprocess.Popen(
        ["tar", "--create", "--directory", str(home), "--owner=0", "--group=0", "--mode=a+rX",
         "--exclude=*/test", "--exclude=*.a", "--exclude=__pycache__", "--exclude=*/site-packages/*",
         f"--transform=s,^\\.,{target},S", "."],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    subprocess.run(["docker", "cp", "-", f"{container}:/"], stdin=tar.stdout, check=True)
    if tar.wait():
        raise RuntimeError(f"tar could not read {home}")


def _interpreter(version: str) -> Path:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    home = root / "versions" / version
    if not home.is_dir():
        raise RecipeUnavailable(f"needs Python {version} of pyenv: pyenv install {version}")
    return home


def _options(flag: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (flag, value)]


def _docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(words)[:200]}: {done.stderr.strip()}")
    return done.stdout.strip()


class _lock:
    """Let one process at a time make images: tests may run in several."""

    def __enter__(self) -> None:
        folder = Path(__file__).parents[2] / ".cache"
        folder.mkdir(exist_ok=True)
        self._file = open(folder / "test-images.lock", "w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def main() -> None:
    """Make the named images, or list their names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="which images to make; all where none is named")
    parser.add_argument("--list", action="store_true", help="only print the names")
    chosen = parser.parse_args()
    for name in chosen.name or RECIPES:
        print(reference(name) if chosen.list else ensure(name))


if __name__ == "__main__":
    main()

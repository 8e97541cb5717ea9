"""Work inside an image, as root in a container of its own: look at it, or install packages and keep that.

The program that does it (``inside.py``), its task and all that the host lends lie below a volume at /tmp:
none of it, not even a mount point, gets into the image that is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import io
import json
import os
import re
import tarfile
import textwrap
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from .. import labels
from ..engine.base import Engine, ImageRecord
from ..engine.passing import passing
from ..errors import EngineRefused, ImageBuildFailed, ImageUnusable
from ..owner import Owner
from . import site
from .facts import Facts
from .plan import Plan, musl

FOLDER: Final = PurePosixPath("/tmp/tfgpu")
_INSIDE: Final = f"{FOLDER}/inside.py"
_SPEC: Final = f"{FOLDER}/spec.json"
_LOOK_SECONDS: Final = 120.0
"""How long an image may take to say what it is; a second or two is usual."""
_MARK: Final = "tfgpu-probe:"
_PYTHONS: Final = (
    "python3",
    "python",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/conda/bin/python3",
)
_NO_PROGRAM: Final = re.compile(
    r"executable file not found|no such file or directory|not a directory", re.IGNORECASE
)
_TELLING: Final = re.compile(
    r"(?:Collecting|Downloading|Installing collected packages|Successfully installed).*"
)
_LOCAL_HOST: Final = re.compile(r"//(?:[^/@]*@)?(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?=[:/]|$)")


@dataclass(frozen=True)
class Order:
    """What is to be installed: the arguments of ``pip install``, and a virtual environment to make first."""

    arguments: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    new_pip: str = ""
    venv: str = ""
    system_packages: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    """Lines of a requirements file with hashes, instead of the arguments."""
    lent_pip: bytes = b""
    """A zip archive with a pip to begin with, for an image that has none at all."""

    @classmethod
    def of(cls, plan: Plan, lent_pip: bytes = b"") -> Order:
        """Return the order that carries out a plan."""
        return cls(
            plan.requirements,
            plan.constraints,
            plan.new_pip,
            system_packages=plan.system_packages,
            locked=plan.locked,
            lent_pip=lent_pip,
        )


async def look(record: ImageRecord, reference: str, engine: Engine) -> Facts:
    """Ask the image's own Python what the image is.

    :raises ImageUnusable: when there is no Python that runs.
    """
    for python in _PYTHONS:
        try:
            text = await asyncio.wait_for(_printed(record, [python, "-s", _INSIDE, "probe"], engine), _LOOK_SECONDS)
        except asyncio.TimeoutError:
            raise ImageUnusable(
                f"Python in the image {reference} gave no answer within {_LOOK_SECONDS:g} s.",
                "try again when the machine is less busy, or take another image.",
            ) from None
        except EngineRefused as error:
            if not _NO_PROGRAM.search(str(error)):
                raise
            continue
        facts = _facts(text.splitlines())
        if facts is not None:
            return facts
        raise ImageUnusable(
            f"Python in the image {reference} doesn't run.",
            "take another image, such as tensorflow/tensorflow:latest.",
            text[-2000:],
        )
    async with _container(record, ["true"], engine) as made:
        for loader in ("/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"):
            if await engine.get_archive(made, loader):
                raise musl(reference)
    raise ImageUnusable(
        f"The image {reference} has no Python, so no kernel can run in it.",
        "take an image with Python 3, such as tensorflow/tensorflow:latest-gpu-py3.",
    )


async def install(
    record: ImageRecord,
    python: str,
    order: Order,
    engine: Engine,
    *,
    tag: str,
    image_labels: Mapping[str, str],
    changes: Sequence[str] = (),
    said: Callable[[str], None],
) -> Facts:
    """Install into the image and give the result a name; return what it is. Cancelling leaves nothing behind.

    :param said: gets what pip prints that tells a person something.
    :raises ImageBuildFailed: with pip's last words.
    """
    async with container(record, python, "install", engine, order) as made:
        end = asyncio.wrap_future(engine.watch(made))
        try:
            await engine.start(made)
            printed = [line async for line in lines(engine.follow(made), said)]
            code = (await end).code
        finally:
            engine.unwatch(made)
        facts = _facts(printed)
        if code or facts is None:
            raise failed(printed, tag)
        packages = " ".join(f"{name}=={version}" for name, version in sorted(facts.packages.items()))
        # A container's labels come up to the image made from it, where those of the workshop mean nothing.
        emptied = dict.fromkeys((labels.KIND, labels.UID, labels.OWNER), "")
        marks = {**emptied, **image_labels, labels.IMAGE_PACKAGES: packages}
        await engine.commit(made, tag, [*_restored(record), *changes], marks)
        return facts


def _facts(lines: Iterable[str]) -> Facts | None:
    line = next((line for line in lines if line.startswith(_MARK)), "")
    return Facts.from_json(line.removeprefix(_MARK)) if line else None


def _restored(record: ImageRecord) -> list[str]:
    """Return the changes that undo what the container was started with: it is not the image's own.

    An empty ENTRYPOINT would not count as one, so an image without gets none to undo (``_create_args``).
    """
    changes = [f"CMD {json.dumps(record.command or ['python3'])}", f"USER {record.user or '0'}"]
    return [f"ENTRYPOINT {json.dumps(record.entrypoint)}", *changes] if record.entrypoint else changes


def failed(lines: Sequence[str], tag: str) -> ImageBuildFailed:
    """Return the error for a failed installation, judged by what pip printed."""
    text = "\n".join(lines[-25:])
    if "No space left" in text:
        return ImageBuildFailed(
            f"There is no room for {tag} on the engine's disk.",
            "free space: docker system df shows what takes it.",
            text,
        )
    if re.search(r"Could not find a version|No matching distribution", text) and re.search(
        r"NewConnectionError|Retrying|SSLError|ProxyError|ConnectTimeout", "\n".join(lines)
    ):
        return ImageBuildFailed(
            "The package index can't be reached from a container.",
            "see whether pip works on this machine (pip download tqdm); its settings are used here too.",
            text,
        )
    if "ResolutionImpossible" in text or "conflict" in text:
        return ImageBuildFailed(
            "What is to be added doesn't fit the image's own packages, which stay at their versions.",
            "ask for other versions in packages, or take another image.",
            text,
        )
    return ImageBuildFailed(
        f"Installing packages for {tag} failed.",
        "read pip's words below.",
        text,
    )


async def _printed(record: ImageRecord, command: Sequence[str], engine: Engine) -> str:
    async with _container(record, command, engine) as made:
        await engine.start(made)
        chunks = [chunk async for chunk in engine.follow(made)]
        return b"".join(chunks).decode(errors="replace")


def container(
    record: ImageRecord, python: str, task: str, engine: Engine, order: Order
) -> contextlib.AbstractAsyncContextManager[str]:
    """Make a container that carries out a task on an order when it is started; it goes with the block."""
    return _container(record, [python, "-s", _INSIDE, task, _SPEC], engine, order)


@contextlib.asynccontextmanager
async def _container(
    record: ImageRecord, command: Sequence[str], engine: Engine, order: Order | None = None
) -> AsyncIterator[str]:
    """Make a container that has our program, and what the order needs; remove it in any case."""
    lent = site.find() if order else site.PipSite({})
    async with passing(engine, _create_args(record, command, lent, network=order is not None)) as made:
        await engine.put_archive(made, str(FOLDER.parent), _archive(order, lent))
        yield made


def _create_args(
    record: ImageRecord, command: Sequence[str], lent: site.PipSite, *, network: bool
) -> dict[str, Any]:
    reaches_local = any(
        _LOCAL_HOST.search(text) for text in (*lent.settings.values(), *(lent.proxies or {}).values())
    )
    return {
        "Image": record.id,
        **({"Entrypoint": []} if record.entrypoint else {}),
        "Cmd": list(command),
        "User": "0:0",
        "Labels": {
            labels.KIND: labels.KIND_WORKSHOP,
            labels.UID: str(os.geteuid()),
            labels.OWNER: str(Owner.current()),
        },
        "HostConfig": {
            # An index or a proxy on this very machine is not at 127.0.0.1 of any other network.
            "NetworkMode": ("host" if reaches_local else "bridge") if network else "none",
            "Mounts": [
                {"Type": "volume", "Target": str(FOLDER.parent)},
                *(
                    {"Type": "bind", "Source": str(item.host), "Target": str(item.inside), "ReadOnly": True}
                    for item in lent.lend(FOLDER)
                ),
            ],
        },
    }  # fmt: skip


def _archive(order: Order | None, lent: site.PipSite) -> bytes:
    """Return a tar archive for /tmp: our program, and for an order its spec and pip's settings."""
    files = {"inside.py": (importlib.resources.files(__package__) / "inside.py").read_text()}
    lent_pip = {"pip.zip": order.lent_pip} if order is not None and order.lent_pip else {}
    if order is not None:
        files["pip.conf"] = lent.config(FOLDER)
        files["apt.conf"] = site.apt_config(lent, FOLDER)
        files["constraints.txt"] = "\n".join([*order.constraints, ""])
        files["locked.txt"] = "\n".join([*order.locked, ""])
        arguments = ["--constraint", f"{FOLDER}/constraints.txt", *order.arguments] if order.arguments else []
        if order.locked:
            arguments = ["--require-hashes", "--no-deps", "--requirement", f"{FOLDER}/locked.txt"]
        files["spec.json"] = json.dumps(
            {
                "arguments": arguments,
                "system_packages": order.system_packages,
                "new_pip": order.new_pip,
                "venv": order.venv,
                "env": {
                    **lent.environment(FOLDER),
                    "APT_CONFIG": f"{FOLDER}/apt.conf",
                    "PIP_NO_CACHE_DIR": "1",  # nobody would use it again
                    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # the image's Python is the image's, not Debian's
                    "PIP_ROOT_USER_ACTION": "ignore",
                    "PIP_NO_WARN_SCRIPT_LOCATION": "1",
                    "PIP_USER": "0",
                    "PYTHONNOUSERSITE": "1",  # kernels don't see what is installed for one user alone
                },
            }
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo(FOLDER.name)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, data in {**{name: text.encode() for name, text in files.items()}, **lent_pip}.items():
            info = tarfile.TarInfo(f"{FOLDER.name}/{name}")
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


async def lines(chunks: AsyncIterator[bytes], said: Callable[[str], None]) -> AsyncIterator[str]:
    """Cut a stream into lines, passing on as it comes what tells something to a person who waits."""
    rest = b""
    async for chunk in chunks:
        *full, rest = (rest + chunk).split(b"\n")
        for raw in full:
            line = raw.decode(errors="replace").rstrip()
            if _TELLING.match(line.strip()):
                said(textwrap.shorten(line.strip(), 120, placeholder=" …"))
            yield line
    if rest:
        yield rest.decode(errors="replace")

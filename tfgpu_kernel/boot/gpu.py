"""What a notebook must be told about its GPU: that it has none, or that it lost it."""

import errno
import os
import sys
import threading
import time
from typing import Any, List

NOTICE_FILE = "notice"  # what the server wants said before the first cell's own output
LOST_FILE = "gpu-lost"  # made here when the GPU is lost; the server looks for it
CONTROL = "/dev/nvidiactl"  # opening it wakes no GPU up, as /dev/nvidia0 would
LOOK_SECONDS = 3.0
LOST = (
    "tfgpu: this kernel has lost its GPU: the container may not open NVIDIA's device files any more (systemd set its "
    "rules anew, as a daemon-reload does). What has been opened may go on; save what you need, then restart the "
    "kernel.\n"
)


def install(shell: Any, folder: str) -> None:
    """Say what is to be said at the first cell, and look after the GPU from then on."""
    Watch(shell, folder).install()


class Watch:
    """Looks whether the GPU is still there, and tells the notebook and the server when it isn't."""

    def __init__(self, shell: Any, folder: str) -> None:
        self.shell = shell
        self.folder = folder
        self.begun = False
        self.running = False
        self.pending: List[str] = []

    def install(self) -> None:
        """Hear of each cell's start and end."""
        self.shell.events.register("pre_run_cell", self.before_cell)
        self.shell.events.register("post_run_cell", self.after_cell)

    def before_cell(self, *_: Any) -> None:
        """Say what is pending; begin to look at the first cell, since a kernel that waits may be forked or moved."""
        self.running = True
        if not self.begun:
            self.begun = True
            self.read_notice()
            if os.path.exists(CONTROL):
                threading.Thread(target=self.look, name="tfgpu-gpu", daemon=True).start()
        self.say()

    def after_cell(self, *_: Any) -> None:
        """Note that nothing runs."""
        self.running = False

    def read_notice(self) -> None:
        """Take up what the server left to be said."""
        try:
            with open(os.path.join(self.folder, NOTICE_FILE)) as file:
                self.pending.append(file.read())
        except OSError:
            return

    def say(self) -> None:
        """Print what is pending into the output of the cell that runs."""
        while self.pending:
            sys.stderr.write(self.pending.pop(0))
            sys.stderr.flush()  # before what the cell prints

    def look(self) -> None:
        """Look every few seconds, until it is lost."""
        while not lost():
            time.sleep(LOOK_SECONDS)
        try:
            with open(os.path.join(self.folder, LOST_FILE), "w"):
                pass
        except OSError:
            pass
        self.pending.append(LOST)
        if self.running:
            self.say()


def lost() -> bool:
    """Whether NVIDIA's device files can't be opened any more; one without a driver behind it isn't lost by that."""
    try:
        os.close(os.open(CONTROL, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES, errno.ENOENT)
    return False

"""What modules print while they are imported ahead is kept, and shown when a cell imports them."""

import os
import sys
import tempfile
from typing import Any, List, cast


class Stream:
    """Stands for a stream of Python's: whoever keeps it, as handlers of logs do, prints to the true one later."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


class Capture:
    """Take what Python and native code print, and keep it."""

    def __enter__(self) -> "Capture":
        self.printed, self.native = ["", ""], [b"", b""]
        self._python = sys.stdout, sys.stderr
        self._files: List[Any] = []
        self._kept: List[int] = []
        for number in (1, 2):
            file = tempfile.TemporaryFile("w+b")
            self._files.append(file)
            self._kept.append(os.dup(number))
            os.dup2(file.fileno(), number)
        self._streams = [Stream(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in (1, 2)]  # noqa: SIM115
        sys.stdout, sys.stderr = cast(Any, self._streams)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.stdout, sys.stderr = self._python
        for index, stream in enumerate(self._streams):
            file, stream.target = stream.target, self._python[index]
            self.printed[index] = _read(file)
        for index, number in enumerate((1, 2)):
            os.dup2(self._kept[index], number)
            os.close(self._kept[index])
            self.native[index] = _read(self._files[index])


def _read(file: Any) -> Any:
    with file:
        file.seek(0)
        return file.read()

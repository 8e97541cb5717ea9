"""Whether what is mounted is what was judged: a folder may be replaced before the engine resolves its path."""

import json
import os

FILE = "mounts.json"


def strange(folder: str) -> str:
    """Return the first place where something else is mounted than was judged, or an empty string.

    What can't be looked at counts as strange: whoever closed the way to it could open it again.
    """
    with open(os.path.join(folder, FILE)) as file:
        expected = json.load(file)
    for target, identity in expected.items():
        try:
            status = os.stat(target)
        except OSError:
            return str(target)
        if [status.st_dev, status.st_ino] != identity:
            return str(target)
    return ""

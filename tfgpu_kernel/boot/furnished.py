"""Whether the server has put its files (passwd, home, programs for cells) into this container.

It does so while Python is still importing, since neither then waits for the other; what runs next must find them.
"""

import os
import time

FILE = "/tfgpu/furnished"  # the last of the files
_PATIENCE_SECONDS = 60.0  # an engine may be busy for long; a server that is gone puts nothing
_STEP_SECONDS = 0.002


def waited() -> bool:
    """Wait for the files; False when they don't come."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while not os.path.exists(FILE):
        if time.monotonic() > until:
            return False
        time.sleep(_STEP_SECONDS)
    return True

"""What preloaded modules do to logs only where nobody has set these up: that is known when a cell imports them.

TensorFlow gives its logger a handler and a level unless the root logger has a handler, so that no line comes twice;
old versions of absl set up the root logger itself.
"""

import logging
from typing import Dict, List, Tuple

_NAMES = ("", "tensorflow")

State = Dict[str, Tuple[List[logging.Handler], int]]


def state() -> State:
    """Return handlers and level of the loggers that this is about, by name."""
    loggers = {name: logging.getLogger(name) for name in _NAMES if not name or name in logging.root.manager.loggerDict}
    return {name: (list(logger.handlers), logger.level) for name, logger in loggers.items()}


def take_back(before: State) -> State:
    """Make the loggers what they were before; return what was added."""
    added: State = {}
    for name, (handlers, level) in state().items():
        logger = logging.getLogger(name)
        known, former = before.get(name, ([], logging.NOTSET))
        added[name] = [handler for handler in handlers if handler not in known], level
        for handler in added[name][0]:
            logger.removeHandler(handler)
        logger.setLevel(former)
    return added


def give(added: State) -> None:
    """Add it again, unless a cell has set up the root logger meanwhile."""
    if logging.root.handlers:
        return
    for name, (handlers, level) in added.items():
        logger = logging.getLogger(name)
        for handler in handlers:
            logger.addHandler(handler)
        if handlers:
            logger.setLevel(level)

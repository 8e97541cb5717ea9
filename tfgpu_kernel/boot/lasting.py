"""Take what a kernel consists of out of the search for garbage.

Nothing that was imported before the first cell ever becomes garbage; with TensorFlow 2.21 that is 350,000 objects.
Python looks through all of them at each full collection, and several times at its own end: a kernel takes a second to
end by that, and each restart waits for it.
"""

import gc
from typing import Any, Dict, Optional


def note(namespace: Optional[Dict[str, Any]] = None) -> None:
    """Call all that exists now lasting (Python 3.7 or later; before, nothing happens).

    :param namespace: the cells' own, which stays in: who asks for the referrers of an object must find it.
    """
    if not hasattr(gc, "freeze"):
        return
    if namespace is None or not gc.is_tracked(namespace):
        gc.freeze()
        return
    try:
        import ctypes
    except ImportError:  # a Python that was built without libffi
        gc.freeze()
        return
    ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(namespace))
    try:
        gc.freeze()
    finally:
        ctypes.pythonapi.PyObject_GC_Track(ctypes.py_object(namespace))

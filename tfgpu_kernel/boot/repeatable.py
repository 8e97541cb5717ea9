"""Seed what draws random numbers: at once what is loaded, the rest as soon as it is imported.

A rerun calls :func:`begin` right before its first cell (tfgpu_kernel/rerun.py). Nothing is imported for it: a
notebook may set variables before it imports TensorFlow, and one that never does must not wait for it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, union-attr, method-assign"
# Python 3.6 runs this, mypy reads it.

import importlib.util
import random
import sys


def begin(seed, op_determinism):
    """Seed Python's own generator and those that are loaded, and be ready for the others."""
    random.seed(seed)
    waiting = _Seeding(seed, op_determinism)
    for name in waiting.names():
        if name in sys.modules:
            waiting.seed(name, sys.modules[name])
    sys.meta_path.insert(0, waiting)


class _Seeding(object):
    """A finder that finds nothing by itself: it calls back when one of a few modules has been loaded."""

    def __init__(self, seed, op_determinism):
        self._seed = seed
        self._op_determinism = op_determinism
        self._waiting = {"numpy": self._numpy, "tensorflow": self._tensorflow, "keras": self._keras}

    def names(self):
        return list(self._waiting)

    def seed(self, name, module):
        self._waiting.pop(name)(module)

    def find_spec(self, name, path=None, target=None):
        if name not in self._waiting:
            return None
        seeded = self._waiting.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is None or not hasattr(spec.loader, "exec_module"):
            self._waiting[name] = seeded
            return None
        load = spec.loader.exec_module

        def load_and_seed(module):
            load(module)
            seeded(module)

        spec.loader.exec_module = load_and_seed
        return spec

    def _numpy(self, module):
        module.random.seed(self._seed)

    def _tensorflow(self, module):
        module.random.set_seed(self._seed)
        determinism = getattr(module.config.experimental, "enable_op_determinism", None)
        if self._op_determinism and determinism is not None:  # before 2.8 TF_DETERMINISTIC_OPS does it
            determinism()

    def _keras(self, module):
        seeding = getattr(getattr(module, "utils", None), "set_random_seed", None)
        tensorflow = sys.modules.get("tensorflow")
        # Where TensorFlow itself is loading Keras, it is not ready, and is seeded when it is.
        if seeding is not None and (tensorflow is None or hasattr(tensorflow, "random")):
            seeding(self._seed)

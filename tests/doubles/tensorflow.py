"""A stand-in for TensorFlow, for the rungs of the doctor that no machine without a GPU can reach with the real one.

It answers just what the probe asks: which GPUs there are (by libcuda's double), and products of small matrices. The
variable TF_DOUBLE makes it another: ``cpu`` a build without CUDA, ``blind`` one that misses a library, ``wrong`` one
whose GPU can't count. Its speeds are made up. Runs in a container: standard library alone.
"""

import contextlib
import ctypes
import os
import time
from types import SimpleNamespace

KIND = os.environ.get("TF_DOUBLE", "")
__version__ = "2.17.0"
_here = []


class _Tensor:
    def __init__(self, rows):
        self.rows = rows

    def numpy(self):
        return self

    def tolist(self):
        return self.rows

    def __getitem__(self, place):
        time.sleep(0.01 if "GPU" in _here[-1] else 0.25)
        return self


def _gpus(kind):
    if KIND == "cpu":
        return []
    if KIND == "blind":
        os.write(2, b"W0000 gpu_device.cc:2343] Cannot dlopen some GPU libraries. Skipping GPU devices.\n")
        return []
    count = ctypes.c_int()
    library = ctypes.CDLL("libcuda.so.1")
    if library.cuInit(0):
        return []
    library.cuDeviceGetCount(ctypes.byref(count))
    return [SimpleNamespace(name="/physical_device:GPU:%d" % index) for index in range(count.value)]


@contextlib.contextmanager
def device(name):
    _here.append(name)
    yield
    _here.pop()


def constant(rows):
    return _Tensor(rows)


def _matmul(left, right):
    if left.rows is None:
        return left
    columns = list(zip(*right.rows))
    rows = [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in left.rows]
    if KIND == "wrong":
        rows[0][0] += 1
    return _Tensor(rows)


config = SimpleNamespace(list_physical_devices=_gpus)
sysconfig = SimpleNamespace(get_build_info=lambda: {} if KIND == "cpu" else {"cuda_version": "12.3"})
linalg = SimpleNamespace(matmul=_matmul)
random = SimpleNamespace(uniform=lambda shape: _Tensor(None))
test = SimpleNamespace(is_built_with_cuda=lambda: KIND != "cpu")

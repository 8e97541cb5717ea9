# mypy: ignore-errors
# ruff: noqa: SIM115 - the file ends with the process
"""What runs in a container to find out what a GPU is worth there. Python 3.6 and up; TensorFlow where there is one.

The last line that it prints is one of JSON, the fields those of :class:`tfgpu_kernel.health.facts.Inside`.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time

SIZE = 4096  # a product of two such matrices is 137 * 10^9 operations: a second or two on two cores
CHECKED = 64


def look_with_smi(told):
    """Run everybody's smoke test."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError:
        return
    told["smi"] = done.stdout.decode(errors="replace").strip()
    told["smi_code"] = done.returncode


def start_cuda(told):
    """Load libcuda as TensorFlow would, and start it."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        told["cuinit"] = -1
        return
    told["cuinit"] = library.cuInit(0)
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "libcuda.so" in line}
    told["libcuda"] = sorted(paths)[0] if paths else ""


def multiply(told):
    """Ask TensorFlow for its GPUs, and for a product on the first; whole numbers are exact on every GPU."""
    import tensorflow as tf

    told["tensorflow"] = tf.__version__
    try:
        told["built_with"] = str(tf.sysconfig.get_build_info().get("cuda_version", ""))
    except AttributeError:  # before 2.3
        told["built_with"] = "unknown" if tf.test.is_built_with_cuda() else ""
    gpus = tf.config.list_physical_devices("GPU")
    told["gpus"] = [gpu.name for gpu in gpus]
    if not gpus:
        return
    numbers = range(CHECKED)
    left = [[float((i + 2 * j) % 7) for j in numbers] for i in numbers]
    right = [[float((3 * i + j) % 5) for j in numbers] for i in numbers]
    expected = [[sum(left[i][k] * right[k][j] for k in numbers) for j in numbers] for i in numbers]
    with tf.device("/GPU:0"):
        product = tf.linalg.matmul(tf.constant(left), tf.constant(right)).numpy().tolist()
    told["right"] = product == expected
    told["gpu_gflops"] = speed(tf, "/GPU:0")
    told["cpu_gflops"] = speed(tf, "/CPU:0")


def speed(tf, device):
    """Return the speed of a matrix product, in 10^9 operations a second."""
    with tf.device(device):
        matrix = tf.random.uniform((SIZE, SIZE))
        best = None
        for _ in range(3):  # the first one also loads libraries
            then = time.perf_counter()
            tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
            took = time.perf_counter() - then
            best = took if best is None else min(best, took)
    return 2.0 * SIZE**3 / best / 1e9


def main():
    """Try one thing after another, and tell how far it went."""
    told = {}
    # TensorFlow's C++ writes to the descriptor; what it says is wanted below the result.
    words = tempfile.TemporaryFile()
    before = os.dup(2)
    os.dup2(words.fileno(), 2)
    try:
        for step in (look_with_smi, start_cuda, multiply):
            step(told)
    except Exception as error:
        told["error"] = "%s: %s" % (type(error).__name__, error)
    finally:
        os.dup2(before, 2)
    words.seek(0)
    told["log"] = words.read().decode(errors="replace")[-4000:]
    sys.stdout.write(json.dumps(told) + "\n")


main()

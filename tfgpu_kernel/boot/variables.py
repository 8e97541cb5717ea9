"""Which environment variables act on modules while they are imported, and are too late afterwards.

Shared by both sides: the server compares these before it hands a warm kernel out, and the kernel notices when a
cell sets one that would have acted.
"""

import re

# Read by TensorFlow, Keras, XLA, CUDA and NumPy's libraries when they are loaded or first used.
_LIBRARIES = r"TF|TF2|KERAS|XLA|CUDA|CUDNN|NVIDIA|NCCL|OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|NUMEXPR|NPY|ABSL|JAX|TFDS|MPL"
# Read by the interpreter, the loader, the C library and IPython before there is a kernel.
_SYSTEM = r"PYTHON|LD|LC|MALLOC|IPYTHON"
_SYSTEM_WHOLE = (
    r"LANG|LANGUAGE|TZ|PATH|HOME|USER|LOGNAME|TMPDIR|TERM|COLUMNS|NO_COLOR|COLORTERM|MPLBACKEND|MPLCONFIGDIR"
)

_WATCHED = re.compile(r"(?:(?:%s)_\w+|MPLBACKEND|MPLCONFIGDIR)\Z" % _LIBRARIES)
_EARLY = re.compile(r"(?:(?:%s)_?\w+|(?:%s)_\w+|PYTHON\w+|IPYTHON\w+|%s)\Z" % (_SYSTEM, _LIBRARIES, _SYSTEM_WHOLE))

KERAS_FILE = "keras.json"  # no variable, but read at the import as they are

# These act when the first device (or data set) is looked for, which no import does.
LATE = frozenset(
    (
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "CUDA_CACHE_PATH",
        "CUDA_CACHE_MAXSIZE",
        "NVIDIA_VISIBLE_DEVICES",
        "TF_FORCE_GPU_ALLOW_GROWTH",
        "TFDS_DATA_DIR",
    )
)


def matters_early(name: str) -> bool:
    """Whether a variable acts before the first cell: on the interpreter, the kernel or a preloaded module."""
    return bool(_EARLY.match(name))


def matters_at_import(name: str) -> bool:
    """Whether a variable that a cell sets acts on a module that the cell imports afterwards, and only then."""
    return bool(_WATCHED.match(name)) and name not in LATE

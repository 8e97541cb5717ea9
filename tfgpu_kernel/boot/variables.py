"""Which environment variables act on modules while they are imported, and are too late afterwards.

Shared by both sides: the server compares these before it hands a warm kernel out, and the kernel notices when a
cell sets one that would have acted.
"""

import re

# Read by TensorFlow, Keras, XLA, CUDA and NumPy's libraries when they are loaded or first used.
_LIBRARIES = (
    r"TF|TF2|KERAS|XLA|CUDA|CUDNN|NVIDIA|NCCL|OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|NUMEXPR|NPY|ABSL|JAX|TFDS|MPL|"
    r"PROTOCOL_BUFFERS|HDF5"
)
_MATPLOTLIB = r"MPLBACKEND|MPLCONFIGDIR|MATPLOTLIBRC"
# Read by the interpreter, the loader, the C library and IPython before there is a kernel.
_SYSTEM = r"PYTHON|LD|LC|MALLOC|IPYTHON"
_SYSTEM_WHOLE = r"LANG|LANGUAGE|TZ|PATH|HOME|USER|LOGNAME|TMPDIR|TERM|COLUMNS|NO_COLOR|COLORTERM"

_WATCHED = re.compile(r"(?:(?:%s)_\w+|%s)\Z" % (_LIBRARIES, _MATPLOTLIB))
_EARLY = re.compile(
    r"(?:(?:%s)_?\w+|(?:%s)_\w+|PYTHON\w+|IPYTHON\w+|%s|%s)\Z" % (_SYSTEM, _LIBRARIES, _SYSTEM_WHOLE, _MATPLOTLIB)
)

# No variables, but read at the import as they are: in the home, and in the working directory.
KERAS_FILE = "keras.json"
MATPLOTLIB_FILE = "matplotlibrc"

# These act when the first device (or data set) is looked for or used, which no import does: TensorFlow 2.1 and 2.21
# ask for none of them while they are imported. The two of Intel's OpenMP, which neither of them has, are set by
# scikit-learn when it is imported.
LATE = frozenset(
    (
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "CUDA_CACHE_PATH",
        "CUDA_CACHE_MAXSIZE",
        "KMP_DUPLICATE_LIB_OK",
        "KMP_INIT_AT_FORK",
        "NVIDIA_VISIBLE_DEVICES",
        "TF_CUDNN_DETERMINISTIC",
        "TF_DETERMINISTIC_OPS",
        "TF_FORCE_GPU_ALLOW_GROWTH",
        "TF_GPU_ALLOCATOR",
        "TF_GPU_THREAD_COUNT",
        "TF_GPU_THREAD_MODE",
        "TFDS_DATA_DIR",
    )
)


def matters_early(name: str) -> bool:
    """Whether a variable acts before the first cell: on the interpreter, the kernel or a preloaded module."""
    return bool(_EARLY.match(name))


def matters_at_import(name: str) -> bool:
    """Whether a variable that a cell sets acts on a module that the cell imports afterwards, and only then."""
    return bool(_WATCHED.match(name)) and name not in LATE


def matplotlibs(name: str) -> bool:
    """Whether it is Matplotlib that a variable (or file) acts on, and nothing else."""
    return name.upper().startswith(("MPL", "MATPLOTLIB"))

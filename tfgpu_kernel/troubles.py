"""What goes wrong between a container and a GPU: the cryptic text, its cause, its remedy.

One table for all who meet such a text: the door to the engine, the account of a death, ``jupyter tfgpu doctor``.
The texts are those of Docker, of NVIDIA's driver and container toolkit, and of TensorFlow; docs/gpus.md lists them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Source = Literal["engine", "tensorflow"]


@dataclass(frozen=True)
class Trouble:
    """One row.

    :param pattern: what the text has; case counts for nothing.
    :param cause: what happened and why, a sentence.
    :param remedy: what to do, an imperative sentence.
    :param source: who says so: the engine when it refuses a container, or TensorFlow in a kernel's log.
    """

    name: str
    pattern: str
    cause: str
    remedy: str
    source: Source = "engine"

    def found(self, text: str) -> bool:
        """Whether a text speaks of this trouble."""
        return re.search(self.pattern, text, re.IGNORECASE | re.DOTALL) is not None


_RECONFIGURE: Final = "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
_NEW_SPEC: Final = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"

TABLE: Final = (
    Trouble(
        "hook-missing",
        r'could not select device driver "" with capabilities: \[\[gpu',
        "The Docker engine doesn't find NVIDIA's hook, which lends GPUs to containers (docker run --gpus).",
        f"install nvidia-container-toolkit, then: {_RECONFIGURE}; and leave gpu_request at auto.",
    ),
    Trouble(
        "cdi-off",
        r'could not select device driver "?cdi|CDI device injection failed: CDI is not enabled',
        "The Docker engine doesn't read CDI specifications (on by default from 28.2 on, not known before 25).",
        "turn it on: sudo nvidia-ctk runtime configure --runtime=docker --cdi.enabled && sudo systemctl restart "
        "docker; or leave gpu_request at auto.",
    ),
    Trouble(
        "runtime-unknown",
        r"unknown or invalid runtime name: nvidia|unknown runtime specified nvidia",
        "The nvidia runtime is not registered with this Docker engine (it may be with another one of this machine: "
        "snap, Docker Desktop and rootless engines each have their own).",
        f"register it: {_RECONFIGURE}.",
    ),
    Trouble(
        "cdi-no-device",
        r"unresolvable CDI devices",
        "The engine's CDI specification doesn't have this GPU: there is none, or it is older than the machine's "
        "present state.",
        f"make it anew: {_NEW_SPEC} (or: sudo systemctl restart nvidia-cdi-refresh), and compare nvidia-ctk cdi list.",
    ),
    Trouble(
        "cdi-no-vendor",
        r"failed to discover GPU vendor from CDI",
        "The engine looked for a GPU by CDI and found no specification of any vendor.",
        f"make one: {_NEW_SPEC}; or register the nvidia runtime: {_RECONFIGURE}.",
    ),
    Trouble(
        "cdi-old-driver",
        r"(?:lib(?:EGL|GL\w*|cuda|nvidia)[\w-]*\.so\.\d+\.[\d.]*\d|/lib/firmware/nvidia/\S+).{0,40}no such file",
        "The CDI specification names files of an older NVIDIA driver, which is gone.",
        f"make it anew: {_NEW_SPEC}, and start the kernel again.",
    ),
    Trouble(
        "hook-in-cdi-mode",
        r"invoking the NVIDIA Container Runtime Hook directly",
        "NVIDIA's toolkit is set to CDI, and the engine was asked by the older way (a device request, --gpus).",
        f"leave gpu_request at auto, and register the runtime: {_RECONFIGURE}.",
    ),
    Trouble(
        "driver-too-old",
        r"unsatisfied condition: cuda\s*>=\s*[\d.]+",
        "The image needs a newer CUDA than this machine's NVIDIA driver serves.",
        "upgrade the driver, or choose an older image; env NVIDIA_DISABLE_REQUIRE=true tries in spite of it.",
    ),
    Trouble(
        "driver-mismatch",
        r"driver/library version mismatch|nvml error: .*version mismatch",
        "The NVIDIA driver was upgraded, but the old one is still loaded.",
        "reboot the machine (or unload all nvidia modules, and load them again).",
    ),
    Trouble(
        "driver-not-loaded",
        r"nvml error: driver not loaded|failed to initialize NVML: driver not loaded"
        r"|couldn't communicate with the NVIDIA driver",
        "NVIDIA's libraries are installed, but its kernel driver is not loaded.",
        "load it (sudo modprobe nvidia); if that fails, install the driver's module for the running kernel "
        "(uname -r) and reboot. With Secure Boot the module must be signed.",
    ),
    Trouble(
        "no-permission",
        r"failed to initialize NVML: insufficient permissions|nvml error: insufficient permissions",
        "The container may not use NVIDIA's device files: SELinux, or their modes, forbid it.",
        "look at ls -lZ /dev/nvidia*; under SELinux kernels run with label=disable already, so see that the device "
        "files can be read and written by all (chmod 666).",
    ),
    Trouble(
        "no-library",
        r"load library failed: libnvidia-ml\.so|failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND",
        "The engine's machine has no NVIDIA driver, or its engine can't see it (a snap, Docker Desktop's virtual "
        "machine).",
        "install NVIDIA's driver, and a Docker engine from your distribution's or Docker's own packages.",
    ),
    Trouble(
        "rootless-cgroups",
        r"bpf_prog_query\(BPF_CGROUP_DEVICE\) failed: operation not permitted|failed to add device rules",
        "A rootless engine may not set device rules, and NVIDIA's toolkit tries to.",
        "tell it not to: sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place.",
    ),
    Trouble(
        "gpu-gone",
        r"device error: \S+: unknown device|failed to get device handle from UUID",
        "The GPU that was chosen is not there any more, as NVIDIA's toolkit sees the machine.",
        "compare nvidia-smi -L, and start the kernel again; a GPU that fell off the bus comes back with a reboot.",
    ),
    Trouble(
        "device-lost",
        r"failed to initialize NVML: unknown error",
        "The container lost the right to use the GPU's device files: systemd set its rules anew (daemon-reload).",
        "restart the kernel; for good: NVIDIA's toolkit 1.18 or newer, CDI, or the engine option "
        "native.cgroupdriver=cgroupfs.",
        "tensorflow",
    ),
    Trouble(
        "no-driver-inside",
        r"could not find cuda drivers|failed call to cuInit: (?:UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE"
        r"|INTERNAL: CUDA error: Failed call to cuInit)",
        "TensorFlow found no NVIDIA driver in the container: it was started without the GPU, or without CUDA's part "
        "of the driver (the capability compute).",
        "start the kernel again; if it stays so, run jupyter tfgpu doctor --smoke.",
        "tensorflow",
    ),
    Trouble(
        "library-mismatch",
        r"cannot dlopen some gpu libraries|could not load dynamic library 'libcu\w+"
        r"|loaded runtime cudnn library.{0,80}but source was compiled with",
        "TensorFlow didn't find the CUDA or cuDNN version that it was built for, so it uses no GPU.",
        "choose an image whose parts fit (tensorflow/tensorflow:2.17.0-gpu does; latest-gpu doesn't since 2.18); env "
        "TF_CPP_MAX_VLOG_LEVEL=3 names the library.",
        "tensorflow",
    ),
    Trouble(
        "stub-library",
        r"cuda driver is a stub library|CUDA_ERROR_STUB_LIBRARY|cuInit.{0,40}\(34\)",
        "TensorFlow loaded the image's placeholder for NVIDIA's driver instead of the driver.",
        "run ldconfig in the image as root, or remove its file /etc/ld.so.conf.d/z-cuda-stubs.conf.",
        "tensorflow",
    ),
    Trouble(
        "image-too-old-for-gpu",
        r"device kernel image is invalid|no kernel image is available for execution",
        "The image's TensorFlow is older than this GPU and has no code for it.",
        "choose a newer image, such as tensorflow/tensorflow:2.17.0-gpu.",
        "tensorflow",
    ),
    Trouble(
        "gpu-closed",
        r"CUDA_ERROR_DEVICE_UNAVAILABLE|CUDA-capable device\S* (?:is/are|are) busy or unavailable",
        "The GPU lets no further process in: by its compute mode one alone may compute on it, or none.",
        "see who has it (nvidia-smi); sudo nvidia-smi -c DEFAULT lets processes share it, until the next reboot.",
        "tensorflow",
    ),
    Trouble(
        "gpu-memory",
        r"CUDA_ERROR_OUT_OF_MEMORY|failed to allocate .{0,40}(?:device|GPU) memory|OOM when allocating tensor",
        "The GPU's memory is full.",
        "see who holds it (nvidia-smi), use smaller batches, or ask for a GPU of your own (gpu_sharing exclusive).",
        "tensorflow",
    ),
)  # fmt: skip


def find(text: str) -> Trouble | None:
    """Return the row that a text speaks of, or None."""
    return next((trouble for trouble in TABLE if trouble.found(text)), None)

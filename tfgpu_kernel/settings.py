"""The settings of a kernel as Jupyter's configuration and kernel.json have them: one trait each, with its help.

Here is what a setting is called, what it is by default and why; what it may be, :mod:`tfgpu_kernel.config` judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Dict, Float, Int, List, Unicode, Union

from .config import AUTO, KernelConfig, parse


class KernelSettings(KernelProvisionerBase):
    """A provisioner as far as its settings: :class:`tfgpu_kernel.provisioner.TfgpuProvisioner` has the lifecycle."""

    image = Unicode(
        AUTO,
        config=True,
        help='Image to run: "auto" (default; tensorflow/tensorflow:latest-gpu-py3 where GPU and driver can run it, '
        "else the newest preset that they can), a preset's short name, or any reference, digest or local image with "
        "Python 3. Completed with ipykernel where it lacks that; one that is named is never replaced.",
    )
    gpus = Union(
        [Int(), Unicode(), List(Unicode())],
        default_value=1,
        config=True,
        help='GPUs to lend: a count, "all", "none", or which ones, as a list of indices and UUIDs or as "device=0,2". '
        "A number alone is a count: 3 means three GPUs, and GPU 3 is device=3. One by default, so that "
        "on a machine with eight a notebook takes one.",
    )
    gpu_required = Bool(
        True,
        config=True,
        help="Refuse to start where no GPU is usable, and say why. False runs on the CPU instead, and says "
        "so; true by default, since a silent CPU run costs hours.",
    )
    gpu_sharing = Unicode(
        KernelConfig.gpu_sharing,
        config=True,
        help='"shared" (default): several kernels may have the same GPU, and are spread over the GPUs. '
        '"exclusive": a GPU of one\'s own, that no other kernel has and no other process computes on.',
    )
    when_full = Unicode(
        KernelConfig.when_full,
        config=True,
        help='When no GPU can be had because others hold them: "fail" (default; says who holds them), "wait" (a '
        'place in the queue, can be cancelled) or "cpu".',
    )
    gpu_idle_timeout = Float(
        KernelConfig.gpu_idle_timeout,
        config=True,
        help="Seconds after which a server shuts a kernel down that holds a GPU and does nothing; 0 (default) for "
        "never. A kernel that works is left alone, and one that holds no GPU: for those there is Jupyter's own culling "
        "(MappingKernelManager.cull_idle_timeout).",
    )
    gpu_idle_warning = Float(
        KernelConfig.gpu_idle_warning,
        config=True,
        help="Seconds before that in which JupyterLab warns, by the notebook's name, with a button that keeps the "
        "kernel; ten minutes by default. Nobody's kernel ends without having been warned of for so long.",
    )
    gpu_request = Unicode(
        KernelConfig.gpu_request,
        config=True,
        help='How the engine is asked for GPUs: "auto" (default; the nvidia runtime, else CDI, else a device '
        'request, by what the engine offers), "runtime", "cdi" or "device-request".',
    )
    extras = Bool(
        True,
        config=True,
        help="Whether an image without ipykernel also gets what cells take for granted: matplotlib, pandas, pillow, "
        "ipywidgets and tqdm.",
    )
    packages = List(
        Unicode(),
        config=True,
        help="Further Python packages for the kernel (PEP 508, such as seaborn or pandas>=2); they become a "
        "layer of their own, and leave the image's packages at their versions.",
    )
    system_packages = List(
        Unicode(),
        config=True,
        help="Packages of the image's distribution (apt), such as git or graphviz; for images whose apt still works: "
        "Debian from 11, Ubuntu from 20.04 on.",
    )
    workspace = Unicode(
        "",
        config=True,
        help="Folder that is mounted at its own path, read-write. By default the server's root folder, or "
        "without a server the kernel's working directory.",
    )
    mounts = List(
        Union([Unicode(), Dict()]),
        config=True,
        help='Further folders: "SOURCE", "SOURCE:TARGET" or "SOURCE:TARGET:rw"; read-only unless rw.',
    )
    mount_roots = List(
        Unicode(),
        config=True,
        help="Folders that further mounts must lie in. By default the home folder and the workspace.",
    )
    env = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        config=True,
        help="Environment variables for the kernel. The server's own never get in, save those that are "
        "named in kernel.json's env, here, or by the caller.",
    )
    network = Unicode(
        "bridge",
        config=True,
        help='Network of the container: "bridge" (default; downloads work), "none" (strict), or the name of '
        "one of Docker's networks. The kernel's own traffic never needs it.",
    )
    memory = Union(
        [Unicode(), Int()],
        default_value="",
        config=True,
        help="Limit of main memory, such as 8g; none by default. Beyond it the kernel ends, and says so.",
    )
    cpus = Union(
        [Float(), Unicode()],
        default_value=0.0,
        config=True,
        help="Limit of processors, such as 1.5; 0 (default) for none.",
    )
    shm_size = Union(
        [Unicode(), Int()],
        default_value="2g",
        config=True,
        help="Size of /dev/shm; 2g by default, since Docker's 64m kills data loaders with SIGBUS.",
    )
    pids_limit = Int(
        4096,
        config=True,
        help="Most processes and threads of a kernel; TensorFlow starts some hundreds on big machines.",
    )
    user = Unicode(
        "",
        config=True,
        help="UID or UID:GID to run as. By default the server's user, or the workspace's owner where the "
        "server is root.",
    )
    labels = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        config=True,
        help="Further labels for the container.",
    )
    pull = Unicode(
        "missing",
        config=True,
        help='When to pull the image: "missing" (default), "always" or "never".',
    )
    pull_timeout = Float(
        KernelConfig.pull_timeout,
        config=True,
        help="Seconds that pulling or completing an image may take, apart from the launch; an hour by default, for "
        "7 GB on a slow line.",
    )
    launch_timeout = Float(
        KernelConfig.launch_timeout,
        config=True,
        help="Seconds from the start of the container to the kernel's first answer.",
    )
    on_server_stop = Unicode(
        "shutdown",
        config=True,
        help='What becomes of the kernel when the server is stopped in good order: "shutdown" (default, as with '
        'every kernel) or "detach": it goes on, and the next server with the same root folder takes it up. A '
        "kernel whose server crashed goes on in either case.",
    )
    grace_busy = Float(
        KernelConfig.grace_busy,
        config=True,
        help="Seconds that a kernel whose server is gone may run on until it is removed; 24 hours by default. A server "
        "that starts before takes it up.",
    )
    grace_idle = Float(
        KernelConfig.grace_idle,
        config=True,
        help="The same for one that was found idle since; an hour by default.",
    )
    pool_size = Int(
        KernelConfig.pool_size,
        config=True,
        help="How many finished kernels of this kind a server keeps ready, from the first use on; 1 by default, "
        "0 for none. Programs that run one notebook and end (nbclient, papermill) keep none, but take one of a "
        "server's.",
    )
    pool_memory = Union(
        [Unicode(), Int()],
        default_value="4g",
        config=True,
        help="Main memory that a server's ready kernels may take together; 4g by default. One with TensorFlow takes "
        "about 500m.",
    )
    preload = List(
        Unicode(),
        default_value=list(KernelConfig.preload),
        config=True,
        help="Modules that a ready kernel has imported ahead, where the image has them. They don't show until a cell "
        "imports them.",
    )

    def settings(self) -> KernelConfig:
        """Return the traits as one frozen record.

        :raises ConfigError: at the first value that can't be used.
        """
        return parse({name: getattr(self, name) for name in KernelSettings.class_own_traits(config=True)})


def judged(settings: Mapping[str, Any]) -> KernelConfig:
    """Return settings in kernel.json's form as one frozen record, the others as they are by default.

    :raises ConfigError: at the first value that can't be used.
    """
    traits = KernelSettings.class_own_traits(config=True)
    return parse({name: trait.default() for name, trait in traits.items()} | dict(settings))

"""What to type on this machine: remedies by distribution and engine. Pure."""

from __future__ import annotations

from typing import Final

from ..engine.base import EngineInfo
from .facts import Machine

_GUIDE: Final = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"

_DRIVER: Final = {
    "ubuntu": "sudo ubuntu-drivers install && sudo reboot",
    "debian": "add contrib non-free non-free-firmware to the sources, then: sudo apt-get install nvidia-driver "
    "firmware-misc-nonfree && sudo reboot",
    "fedora": "turn on RPM Fusion, then: sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda && sudo reboot",
    "rhel": "add NVIDIA's CUDA repository, then: sudo dnf install nvidia-open && sudo reboot",
    "suse": "add NVIDIA's repository, then: sudo zypper install nvidia-open-driver-G06-signed-kmp-default "
    "nvidia-compute-utils-G06 && sudo reboot",
    "arch": "sudo pacman -S nvidia-open nvidia-utils && sudo reboot",
    "other": "install NVIDIA's driver by your distribution's own way, and reboot",
}
_MODULE: Final = {
    "ubuntu": "sudo apt-get install linux-headers-$(uname -r) && sudo dkms autoinstall && sudo modprobe nvidia",
    "debian": "sudo apt-get install linux-headers-amd64 && sudo dkms autoinstall && sudo modprobe nvidia",
    "fedora": "sudo akmods --force && sudo modprobe nvidia",
}
_TOOLKIT: Final = {
    "ubuntu": "sudo apt-get install nvidia-container-toolkit",
    "debian": "sudo apt-get install nvidia-container-toolkit",
    "fedora": "sudo dnf install nvidia-container-toolkit",
    "rhel": "sudo dnf install nvidia-container-toolkit",
    "suse": "sudo zypper install nvidia-container-toolkit",
    "arch": "sudo pacman -S nvidia-container-toolkit",
}


def install_driver(machine: Machine) -> str:
    """Return how NVIDIA's driver is installed."""
    if machine.wsl:
        return (
            "install NVIDIA's driver in Windows, never one inside WSL2, then: wsl --update and wsl --shutdown, "
            "and open "
            "this again."
        )
    return f"{_DRIVER[machine.family]}."


def load_driver(machine: Machine) -> str:
    """Return how a driver that is installed gets loaded."""
    if machine.wsl:
        return install_driver(machine)
    how = _MODULE.get(machine.family, "sudo modprobe nvidia")
    return f"{how}. With Secure Boot on, the module must be signed (mokutil --sb-state)."


def install_toolkit(machine: Machine) -> str:
    """Return how NVIDIA's container toolkit is installed, or upgraded."""
    how = _TOOLKIT.get(machine.family)
    if how is None:
        return f"install nvidia-container-toolkit: {_GUIDE}."
    where = "" if machine.family == "arch" else f"add NVIDIA's repository ({_GUIDE}), then: "
    return f"{where}{how}."


def register(engine: EngineInfo) -> str:
    """Return how the engine is told of NVIDIA's runtime."""
    if is_snap(engine):
        return (
            "this engine is a snap, which can't lend GPUs in a way that lasts: sudo snap remove docker, then install "
            "Docker from your distribution's or Docker's own packages."
        )
    if engine.names_localhost:  # podman reads CDI alone
        return "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml."
    if engine.rootless:
        return (
            "nvidia-ctk runtime configure --runtime=docker --config=$HOME/.config/docker/daemon.json && systemctl "
            "--user restart docker; and once: sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place."
        )
    if "Docker Desktop" in engine.operating_system:
        return (
            "Docker Desktop for Linux can't lend GPUs: install Docker Engine, and choose it: docker context use "
            "default."
        )
    return "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker."


def is_snap(engine: EngineInfo) -> bool:
    """Whether an engine is Ubuntu's snap."""
    return engine.root_dir.startswith("/var/snap/")

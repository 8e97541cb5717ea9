"""An engine's errors in our words. The one place that matches on the texts of Docker and its kin."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import requests
from docker.errors import APIError, DockerException, NotFound

from .. import errors, troubles
from .logins import WithoutLogin

_NO_SPACE: Final = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_ENDED: Final = re.compile(
    r"cannot kill container.* is not running|can only kill running containers"
    r"|^container \S+ is not running|exec sessions on running containers",
    re.IGNORECASE | re.DOTALL,
)
_MOUNT: Final = re.compile(
    r"bind source path does not exist: (?P<path>\S+)"
    r"|error while creating mount source path '(?P<made>[^']+)'"
    r"|Mounts denied|is not shared from the host",
    re.IGNORECASE,
)
_NO_IMAGE: Final = re.compile(
    r"manifest (?:for \S+ )?(?:not found|unknown)|repository .* not found|No such image"
    r"|pull access denied|requested access to the resource is denied|name unknown",
    re.IGNORECASE,
)
_RATE: Final = re.compile(r"toomanyrequests|429 Too Many Requests|rate limit", re.IGNORECASE)
_LOGIN: Final = re.compile(r"\bunauthorized\b|authentication required|no basic auth credentials", re.IGNORECASE)
_FORBIDDEN: Final = re.compile(r"\bHTTP 403\b|403 Forbidden|Since Docker is a US company", re.IGNORECASE)
_REGISTRY: Final = re.compile(
    r"Client\.Timeout|context deadline exceeded|no such host|i/o timeout|connection refused"
    r"|network is unreachable|TLS handshake|x509|proxyconnect|server misbehaving|unexpected EOF"
    r"|unexpected status code|received unexpected HTTP status|\bEOF\b|connection reset|unauthorized"
    r"|403 Forbidden|Since Docker is a US company",
    re.IGNORECASE,
)


def translated(error: Exception, address: str, subject: str = "") -> errors.TfgpuError:
    """Return our error for one of docker-py's, of requests' or of the system's.

    :param address: where the engine is.
    :param subject: the image that was asked for, where there is one.
    """
    text = _text(error)
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return errors.EngineNotPermitted(
            f"There is a Docker engine at {address}, but this user may not use it.",
            "add yourself to the engine's group (sudo usermod -aG docker $USER), then log out and in "
            "again. Whoever is in that group can become root on this machine.",
            text,
        )
    if _NO_SPACE.search(text):
        return errors.NoSpace(
            "The disk that holds the engine's images and containers is full.",
            "free space: jupyter tfgpu prune removes what no kernel uses, docker system df shows the rest.",
            text,
        )
    trouble = troubles.find(text) if isinstance(error, APIError) else None
    if trouble is not None:
        return errors.GpuUnusable(trouble.cause, trouble.remedy, text)
    # Docker's words (from 26 on in small letters), and podman's.
    if _ENDED.search(text):
        return errors.ContainerGone("The kernel's container has ended.", "restart the kernel.", text)
    if isinstance(error, NotFound) and "No such container" in text:
        return errors.ContainerGone(
            "The kernel's container is gone: something outside Jupyter removed it.",
            "restart the kernel.",
            text,
        )
    mount = _MOUNT.search(text)
    if mount:
        path = mount["path"] or mount["made"] or "the kernel's folders"
        return errors.RunFolderNotShared(
            f"The engine at {address} does not see {path}, which is here: it runs on another machine, in a "
            "virtual machine (Docker Desktop), in a sandbox (snap), or this server runs in a container "
            "itself.",
            "use an engine of this machine that was installed from your distribution's or Docker's own "
            "packages, and start Jupyter outside any container.",
            text,
        )
    if _RATE.search(text):
        return errors.RegistryUnreachable(
            f"The registry refuses to send {subject or 'the image'} for now: too many downloads from here.",
            "log in (docker login) for a higher limit, or try again in some hours.",
            text,
        )
    if _FORBIDDEN.search(text):
        return errors.RegistryUnreachable(
            f"The registry refuses to send {subject or 'the image'} to this place (403): it is blocked in this "
            "country, or by the site's proxy.",
            "take a mirror of the registry, build an image from package mirrors (jupyter tfgpu image build), "
            "or load one (jupyter tfgpu image load).",
            text,
        )
    if _LOGIN.search(text):
        return errors.ImageNotFound(
            f"The registry shows {subject or 'the image'} only to those who log in.",
            error.remedy if isinstance(error, WithoutLogin) else f"log in: docker login{_host(subject)}.",
            text,
        )
    if _NO_IMAGE.search(text):
        return errors.ImageNotFound(
            f"There is no image {subject or ''} here, and its registry has none of that name, or shows it "
            "only to those who log in.".replace("image  here", "such image here"),
            f"check the name and tag; or {error.remedy}"
            if isinstance(error, WithoutLogin)
            else "check the name and tag, or log in (docker login).",
            text,
        )
    # docker-py wraps the time-out of its first question in an exception of its own.
    if isinstance(error, requests.Timeout | TimeoutError | asyncio.TimeoutError) or re.match(
        r"Error while fetching server API version: .*Read timed out", text
    ):
        return errors.EngineNotAnswering(
            f"The Docker engine at {address} took the call, but gives no answer.",
            "look at it with docker info; if that hangs too, restart it (sudo systemctl restart docker).",
            text,
        )
    if isinstance(error, APIError) and _REGISTRY.search(text):
        return registry_unreachable(subject, text)
    # docker-py's APIError is an HTTPError of requests: an answer, not a broken connection.
    if isinstance(error, requests.RequestException | OSError) and not isinstance(error, APIError):
        return errors.EngineNotAnswering(
            f"The connection to the Docker engine at {address} failed.",
            "see whether it runs (docker info), and start it: sudo systemctl start docker.",
            text,
        )
    if isinstance(error, DockerException) and "Error while fetching server API version" in text:
        return errors.EngineNotFound(
            f"No Docker engine answers at {address}.",
            "start it: sudo systemctl start docker.",
            text,
        )
    if _REGISTRY.search(text):
        return registry_unreachable(subject, text)
    return errors.EngineRefused(
        "The Docker engine refused what was asked of it.",
        "read the engine's words below; its own log (journalctl -u docker) often says more.",
        text,
    )


def _host(reference: str) -> str:
    """Return the registry of a reference as an argument of docker login, or nothing for Docker Hub."""
    first, slash, _ = reference.partition("/")
    return f" {first}" if slash and ("." in first or ":" in first) else ""


def registry_unreachable(subject: str, text: str) -> errors.RegistryUnreachable:
    """Return the error for a registry that can't be reached, or answers with nonsense."""
    return errors.RegistryUnreachable(
        f"The image {subject or ''} is not on this machine, and its registry can't be reached from here.".replace(
            "image  is", "image is"
        ),
        "check the network or the proxy of the engine; without a registry, build an image from package "
        "mirrors (jupyter tfgpu image build) or load one (jupyter tfgpu image load -i FILE).",
        text,
    )


def _text(error: Exception) -> str:
    """Return an error's own words: the engine's explanation where it gave one."""
    if isinstance(error, APIError) and error.explanation:
        explanation = error.explanation
        return explanation.decode(errors="replace") if isinstance(explanation, bytes) else str(explanation)
    return str(error) or type(error).__name__

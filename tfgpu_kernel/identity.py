"""As whom a kernel runs, and what the container must hold for that: passwd lines and a home.

The files go into the container's own layer before it starts (one archive, no mounts), so they end with it.
"""

from __future__ import annotations

import grp
import io
import os
import pwd
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .boot import furnished
from .engine.base import EngineInfo
from .errors import ConfigError, EngineUnsuitable, MountRefused
from .mounts import CONTAINER_CACHE, CONTAINER_HOME

# Folders of the private home that lead to caches which outlive the kernel. Only downloads and compiled
# code: settings (keras.json, matplotlibrc) stay private, or one notebook would change the next.
_KEPT: Final = {
    ".keras/datasets": "keras-datasets",
    ".keras/models": "keras-models",
    ".cache/matplotlib": "matplotlib",
    "tensorflow_datasets": "tensorflow-datasets",
}
KEPT_FOLDERS: Final = (*_KEPT.values(), "cuda")
"""Folders below the cache folder that must exist before the start."""


@dataclass(frozen=True)
class Identity:
    """The user of a kernel inside its container, and whose files it makes on the host."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, so that folders shared through a group stay within reach."""
    name: str
    host_uid: int
    host_gid: int
    """Who owns the kernel's files on the host; differs from uid and gid under a rootless engine."""
    home_mode: int = 0o700
    """Mode of the private home. An engine that maps user ids also maps the owners of files it is sent, so there
    the home is somebody else's, and must be open to the kernel; nobody else is in its container."""


def identify(
    wanted: tuple[int, int | None] | None, workspace: str, engine: EngineInfo, excluded: Sequence[int] = ()
) -> Identity:
    """Decide as whom a kernel runs.

    The server's own user; where the server is root, the workspace's owner (root without capabilities
    can't write into others' folders); 0:0 under a rootless engine, which maps it to the engine's user.

    :param wanted: the setting ``user``, or None.
    :param excluded: groups never passed on (the one that may use the engine's socket).
    :raises ConfigError: when an ordinary server's user asks to be somebody else.
    :raises MountRefused: when the workspace isn't there.
    :raises EngineUnsuitable: when the engine maps user ids so that files would be somebody else's.
    """
    server_uid, server_gid = os.geteuid(), os.getegid()
    if wanted is not None:
        uid, gid = wanted
        if server_uid != 0 and uid != server_uid:
            raise ConfigError(
                f"The setting user asks for uid {uid}, but this server runs as uid {server_uid} and "
                "can't start kernels as others.",
                "remove user from the kernel's settings.",
            )
        gid = _primary_group(uid) if gid is None else gid
    elif server_uid == 0:
        try:
            owner = os.stat(workspace)
        except OSError as error:
            raise MountRefused(
                f"The workspace {workspace!r} can't be mounted: {error.strerror}.",
                "create it, or correct the setting workspace.",
            ) from error
        uid, gid = owner.st_uid, owner.st_gid
    else:
        uid, gid = server_uid, server_gid
    if engine.rootless:
        if uid != server_uid:
            raise EngineUnsuitable(
                "This engine is rootless: whatever it runs belongs to the engine's user, not to uid "
                f"{uid}.",
                "use the machine's own (root) engine, or run Jupyter as the engine's user.",
            )
        return Identity(0, 0, (), "root", uid, gid)
    mode = 0o777 if engine.userns_remap else 0o700
    return Identity(uid, gid, _groups(uid, gid, excluded), _name(uid), uid, gid, mode)


def archive(
    identity: Identity, passwd: str, group: str, files: Mapping[str, tuple[str, int]] | None = None
) -> bytes:
    """Return a tar archive for ``/``: passwd and group with the user's lines, and the private home.

    :param passwd: the image's ``/etc/passwd``; its other lines stay.
    :param group: the image's ``/etc/group``.
    :param files: further files, path → content and mode; root's, and no business of the kernel to change.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _file(tar, "etc/passwd", passwd_with(identity, passwd))
        _file(tar, "etc/group", group_with(identity, group))
        _folder(tar, "tfgpu", 0, 0, 0o755)
        for folder in sorted({os.path.dirname(path) for path in files or ()}):
            _folder(tar, folder.lstrip("/"), 0, 0, 0o755)
        for path, (text, mode) in (files or {}).items():
            _file(tar, path.lstrip("/"), text, mode)
        home = CONTAINER_HOME.lstrip("/")
        own = (identity.uid, identity.gid)
        _folder(tar, home, *own, identity.home_mode)
        for folder in sorted({os.path.dirname(name) for name in _KEPT} - {""}):
            _folder(tar, f"{home}/{folder}", *own, identity.home_mode)
        for name, kept in _KEPT.items():
            link = tarfile.TarInfo(f"{home}/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"{CONTAINER_CACHE}/{kept}"
            link.uid, link.gid = own
            tar.addfile(link)
        _file(tar, furnished.FILE.lstrip("/"), "")  # last: a kernel that sees it has all the others
    return buffer.getvalue()


def passwd_with(identity: Identity, passwd: str) -> str:
    """Return passwd with one line for the user, in place of the image's own for that uid or name."""
    line = f"{identity.name}:x:{identity.uid}:{identity.gid}:{identity.name}:{CONTAINER_HOME}:/bin/bash"
    kept = [
        other
        for other in passwd.splitlines()
        if other.split(":")[2:3] != [str(identity.uid)] and other.split(":")[0] != identity.name
    ]
    return "\n".join([*kept, line]) + "\n"


def group_with(identity: Identity, group: str) -> str:
    """Return group with a line for each of the user's groups that the image has none for."""
    lines = group.splitlines()
    known = {line.split(":")[2] for line in lines if line.count(":") >= 2}
    names = {line.split(":")[0] for line in lines}
    for gid in (identity.gid, *identity.groups):
        if str(gid) not in known:
            name = _group_name(gid)
            lines.append(f"{name if name not in names else f'group{gid}'}:x:{gid}:")
            known.add(str(gid))
            names.add(name)
    return "\n".join(lines) + "\n"


def _file(tar: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    content = text.encode()
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _folder(tar: tarfile.TarFile, name: str, uid: int, gid: int, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.uid, entry.gid, entry.mode = tarfile.DIRTYPE, uid, gid, mode
    tar.addfile(entry)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user{uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"


def _primary_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _groups(uid: int, gid: int, excluded: Sequence[int]) -> tuple[int, ...]:
    """Return the user's supplementary groups; root's are never passed on."""
    if uid == os.geteuid():
        groups = set(os.getgroups())
    else:
        try:
            groups = set(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        except KeyError:
            groups = set()
    return tuple(sorted(groups - {0, gid, *excluded}))

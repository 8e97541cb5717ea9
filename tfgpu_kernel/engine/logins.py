"""Logins at registries, from Docker's own configuration; none where the credential helper that has them doesn't run.

Docker Desktop leaves ``"credsStore": "desktop"`` behind where its helper can't be run, and public images need no login.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, TypeVar

from docker import APIClient
from docker.credentials.errors import StoreError
from docker.errors import APIError, DockerException

T = TypeVar("T")

_REFUSED: Final = re.compile(
    r"\bunauthorized\b|authentication required|no basic auth credentials|authorization failed"
    r"|access denied|access to the resource is denied",
    re.IGNORECASE,
)


class WithoutLogin(DockerException):
    """A registry refused who came without a login, because the helper that has it doesn't run."""

    def __init__(self, text: str, helper: str) -> None:
        super().__init__(text)
        self.helper = helper
        """The helper's name as Docker's configuration has it, such as ``desktop``; empty where it isn't known."""

    @property
    def remedy(self) -> str:
        """What to do about it."""
        which, program = (self.helper, f" (docker-credential-{self.helper})") if self.helper else ("named", "")
        return (
            f"the credential helper {which} in ~/.docker/config.json doesn't run: install it{program}, or remove "
            "credsStore (or its line in credHelpers) there, then docker login."
        )


class Client(APIClient):
    """docker-py's client, for which a helper that doesn't run is no reason not to build."""

    def _set_auth_headers(self, headers: MutableMapping[str, str]) -> None:
        """Add all logins that there are, for the registries of base images."""
        try:
            super()._set_auth_headers(headers)  # type: ignore[misc] # not in the stubs
        except (DockerException, StoreError) as error:
            if _broken(error) is None:
                raise


def logged_in(call: Callable[[dict[str, str] | None], T]) -> T:
    """Make a call with the registry's login (it gets None), and without one (``{}``) where its helper doesn't run.

    :raises WithoutLogin: where the registry wants one.
    """
    return _logged_in(call)[0]


def stream(call: Callable[[dict[str, str] | None], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Do the same for a call that answers with a stream, in which an engine may tell of the refusal."""
    lines, broken = _logged_in(call)
    for line in lines:
        if broken is not None and _REFUSED.search(str(line.get("error", ""))):
            raise WithoutLogin(str(line["error"]), broken)
        yield line


def _logged_in(call: Callable[[dict[str, str] | None], T]) -> tuple[T, str | None]:
    """Return the answer, and the name of the helper that didn't run."""
    try:
        return call(None), None
    except DockerException as error:
        helper = _broken(error)
        if helper is None:
            raise
    try:
        return call({}), helper
    except APIError as error:
        text = str(error.explanation or error)
        if _REFUSED.search(text):
            raise WithoutLogin(text, helper) from error
        raise


def _broken(error: Exception) -> str | None:
    """Return the name of the helper that doesn't run, where that is what the error is about."""
    store = next((one for one in (error, error.__cause__) if isinstance(one, StoreError)), None)
    if store is None:
        return None
    found = re.search(r"docker-credential-([\w.-]+)", str(store))
    return found[1] if found else ""

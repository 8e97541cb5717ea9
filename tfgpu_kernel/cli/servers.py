"""Calls to this user's running Jupyter servers, and why one wasn't answered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import requests


def ask(server: Mapping[str, Any], method: str, path: str, seconds: float) -> requests.Response:
    """Ask a server of this machine, as its list of running servers describes it.

    :param path: below the server's base URL, without a slash in front.
    :raises requests.RequestException: where there is no answer.
    """
    with requests.Session() as session:
        # A proxy of the environment would get the token, and ask its own localhost.
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        token = server.get("token")
        headers = {"Authorization": f"token {token}"} if token else {}
        # What leads to a page for logging in is no answer.
        return session.request(
            method, f"{server['url']}{path}", headers=headers, timeout=seconds, allow_redirects=False
        )


def done(answer: requests.Response) -> bool:
    """Whether a server did what it was asked for."""
    return 200 <= answer.status_code < 300


def shut(server: Mapping[str, Any], answer: requests.Response) -> str:
    """Return why a server lets no program ask it; nothing where it does."""
    if answer.status_code not in (requests.codes.forbidden, requests.codes.unauthorized, requests.codes.found):
        return ""
    why = "it has a password and no token" if server.get("password") and not server.get("token") else "its own rules"
    return f"it lets no other program ask it ({why})"


def silence(error: requests.RequestException) -> str:
    """Return why a server gave no answer."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate can't be verified; REQUESTS_CA_BUNDLE may name its authority ({error})"
    return f"it gives no answer ({error})"

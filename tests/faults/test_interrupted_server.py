"""What Control-C does to a server that no terminal belongs to."""

from __future__ import annotations

import signal
import subprocess

import pytest

from .serving import SECONDS, Server


@pytest.mark.nightly
def test_an_interrupt_ends_a_server_in_good_order(server: Server) -> None:
    """Without a terminal Jupyter breaks off and forgets its kernels; ours end with it, as after TERM."""
    server.session("interrupted.ipynb")
    listing = ["docker", "ps", "--all", "--quiet", "--filter", "label=io.tfgpu.kind=kernel"]
    before = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    assert before
    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(SECONDS) == 0
    after = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    assert not set(before) & set(after)

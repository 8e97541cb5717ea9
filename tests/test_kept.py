"""What a kernel keeps while no page is there (boot/keep.py), and what a server reads of it (kept.py): no engine."""

from __future__ import annotations

import contextlib
import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.session import Session

from tfgpu_kernel import kept
from tfgpu_kernel.asked import Request
from tfgpu_kernel.boot import keep
from tfgpu_kernel.boot.keep import Keeper
from tfgpu_kernel.runfolder import RunFolder
from tfgpu_kernel.server.missed import request_of_gap

SESSION = Session(key=b"key")
MIB = 2**20


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run folder that nothing was kept in yet."""
    (tmp_path / "io").mkdir()
    return RunFolder(tmp_path)


@pytest.fixture
def keeper(run: RunFolder) -> Keeper:
    """Return a keeper whose server has come; whenever it looks at the clock, ten seconds have gone by."""
    return kept_into(run, 10)


def kept_into(run: RunFolder, seconds: int) -> Keeper:
    """Return a keeper whose server has come, and that finds so much time gone by whenever it looks at the clock."""
    keeper = Keeper(str(run.io), itertools.count(0, seconds).__next__)
    keeper.arrived()
    return keeper


def sent(keeper: Keeper, text: str, size: int = 0) -> str:
    """Have the kernel print; return the message's id."""
    message = SESSION.msg("stream", {"name": "stdout", "text": text + "." * size})
    keeper.sent(keep.IOPUB, SESSION.serialize(message))
    return str(message["msg_id"])


def texts(run: RunFolder, delivered: str) -> list[str]:
    """Return what was printed that no page has got."""
    return [SESSION.unpack(one.frames[-1])["text"].rstrip(".") for one in kept.read(run).new(delivered)]


@contextlib.contextmanager
def full_disk(beyond: int) -> Iterator[None]:
    """Let no file grow beyond a size: a write lands up to it, and the next fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 5, 100])
def test_a_disk_that_was_full_for_a_while_hides_nothing_that_follows(run: RunFolder, keeper: Keeper, room: int) -> None:
    """What found no room is lost as a whole, with a mark; what is printed once there is room again is read."""
    got = sent(keeper, "got")
    keeper.left()
    sent(keeper, "before")
    with full_disk((run.io / keep.FILE).stat().st_size + room):
        sent(keeper, "lost", 1000)
        sent(keeper, "lost, too", 1000)
    assert kept.read(run).cut(got) == (room > 14), "the mark alone finds room there"
    sent(keeper, "after")
    assert texts(run, got) == ["before", "after"]
    assert kept.read(run).cut(got)


def test_a_disk_without_any_room_is_told_by_an_empty_file(run: RunFolder, keeper: Keeper) -> None:
    """Where not even the mark finds room, the file without anything in it says that something is missing."""
    keeper.left()
    assert not kept.read(run).cut("")
    with full_disk(0):
        sent(keeper, "lost")
    assert (run.io / keep.FILE).stat().st_size == 0
    assert kept.read(run).cut("")


@pytest.mark.parametrize("heard", [True, False])
def test_a_message_that_is_too_large_is_told(run: RunFolder, keeper: Keeper, heard: bool) -> None:
    """One beyond 4 MiB isn't kept, which is said, whether it was on its way when the server died or sent later."""
    got = sent(keeper, "got")
    if not heard:
        keeper.left()
    sent(keeper, "large", 4 * MIB)
    if heard:
        keeper.left()
    sent(keeper, "after")
    assert texts(run, got) == ["after"]
    assert kept.read(run).cut(got)


def test_a_large_message_that_a_page_has_got_is_not_told(run: RunFolder, keeper: Keeper) -> None:
    """Nothing is lost that a page has."""
    sent(keeper, "large", 4 * MIB)
    for _ in range(9):
        got = sent(keeper, "got", MIB)
    keeper.left()
    sent(keeper, "after")
    assert texts(run, got) == ["after"]
    assert not kept.read(run).cut(got)


def test_a_request_of_which_something_is_lost_is_not_whole(run: RunFolder, keeper: Keeper) -> None:
    """A page loaded anew puts a whole request in the place of what it had saved: one that lacks a message is none."""
    for _ in range(2):
        keeper.sent(keep.IOPUB, SESSION.serialize(SESSION.msg("execute_input", {"code": ""})))
        sent(keeper, "large", 4 * MIB)
    keeper.sent(keep.IOPUB, SESSION.serialize(SESSION.msg("execute_input", {"code": "later"})))
    keeper.left()
    inputs = [one for one in kept.read(run).everything if one.header["msg_type"] == "execute_input"]
    assert [SESSION.unpack(one.frames[-1])["code"] for one in inputs] == ["later"]


def test_a_request_that_ended_before_something_was_lost_is_whole(run: RunFolder, keeper: Keeper) -> None:
    """Another cell's output that is too large takes nothing from it."""
    asked = SESSION.msg("execute_request", {"code": "1"})
    for kind, content in (("execute_input", {"code": "1"}), ("status", {"execution_state": "idle"})):
        keeper.sent(keep.IOPUB, SESSION.serialize(SESSION.msg(kind, content, parent=asked)))
    sent(keeper, "large", 4 * MIB)
    keeper.left()
    everything = kept.read(run).everything
    assert [one.header["msg_type"] for one in everything][:2] == ["execute_input", "status"]


def test_one_on_its_way_of_three_mib_is_kept(run: RunFolder, keeper: Keeper) -> None:
    """Up to 4 MiB a message is kept that the server had not passed on yet."""
    got = sent(keeper, "got")
    sent(keeper, "large", 3 * MIB)
    keeper.left()
    assert texts(run, got) == ["large"]
    assert not kept.read(run).cut(got)


@pytest.mark.parametrize("seconds", [0, 1, 10])
def test_what_a_server_held_for_a_page_is_kept_when_it_ends(run: RunFolder, seconds: int) -> None:
    """A page leaves, the server hears on and ends, one after another: each line is kept, once and in its order.

    So it is however much of it falls into the time after somebody's coming, in which the kernel goes on writing.
    """
    keeper = kept_into(run, seconds)
    got = sent(keeper, "got")
    printed = []
    for server in range(3):
        for n in range(20):
            if n in {5, 10}:
                keeper.arrived()  # other pages come and go
            if n == 15:
                keeper.left()
            printed.append(f"{server} {n}")
            sent(keeper, printed[-1], 50000)
        keeper.left()
        keeper.left()
        printed.append(f"{server} alone")
        sent(keeper, printed[-1])
        keeper.arrived()
    assert texts(run, got) == printed
    assert not kept.read(run).cut(got)


def test_more_than_is_held_for_a_page_is_told(run: RunFolder, keeper: Keeper) -> None:
    """The latest 8 MiB are held; that there was more is told where a page lacks it, and only there."""
    lacks = sent(keeper, "got")
    for n in range(20):
        has = sent(keeper, str(n), MIB)
    keeper.left()
    assert texts(run, lacks) == [str(n) for n in range(13, 20)]
    assert kept.read(run).cut(lacks)
    assert texts(run, has) == []
    assert not kept.read(run).cut(has)


@pytest.mark.parametrize(
    ("answered", "ended", "place"),
    [
        (["no cell's", "b", "c"], "a", "b"),
        ([], "a", "b"),
        (["no cell's"], "abc", "c"),
    ],
)
def test_a_gap_is_told_where_a_cell_shows_it(answered: list[str], ended: str, place: str) -> None:
    """The notice stands under a request that a cell made, also where a kernel's full disk kept nothing of any cell."""
    requests = [Request(id, "page", "cell", ended=id in ended) for id in "abc"]
    new = [kept.Message("iopub", (), {}, {"msg_id": id}) for id in answered]
    assert request_of_gap(new, requests)["msg_id"] == place
    assert kept.notice_of_cut(request_of_gap(new, requests), b"key").request == place
    assert not request_of_gap([], [])

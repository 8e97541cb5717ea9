"""Which requests of a former page are known, and what a page that is loaded anew is told of them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_client.session import Session

from tfgpu_kernel import kept
from tfgpu_kernel.asked import ENDED_KEPT, Asked, Request, fingerprint
from tfgpu_kernel.kept import Message
from tfgpu_kernel.runfolder import RunFolder
from tfgpu_kernel.server.missed import by_request
from tfgpu_kernel.server.replay import ReplayingConnection

KEY = b"a key of the test"
PLACE = Path(__file__).parents[1] / "labextension/src/place.ts"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Make a run folder."""
    (tmp_path / "io").mkdir()
    return RunFolder(tmp_path)


def ask(asked: Asked, *ids: str, page: str = "p") -> None:
    """Make requests, each from a cell of its own."""
    for one in ids:
        asked.note(Request(one, page, f"cell of {one}", fingerprint(one)))


def sent(kind: str, request: str, **content: object) -> Message:
    """Return a message as a kernel sends it."""
    session = Session(key=KEY)
    raw = session.msg(kind, content, parent={"header": {"msg_id": request, "session": "p"}})
    found = kept.message("iopub", session.serialize(raw))
    assert found is not None
    return found


def test_no_request_is_forgotten_before_it_ended(run: RunFolder) -> None:
    """The training that 80 queued cells wait for stays known, to a next server too; of what ended, the latest do."""
    asked = Asked(run, "c")
    ask(asked, "training", *map(str, range(80)))
    assert len(Asked(run, "c").unfinished) == 81
    asked.end("training")
    assert [one.id for one in Asked(run, "c").unfinished] == [str(n) for n in range(80)]
    asked.end("79")
    known = Asked(run, "c")
    assert known.unfinished == ()
    assert len(known.requests) == 81, "a page loaded anew is still to be shown what they printed"
    ask(known, "next")
    assert [one.id for one in known.requests] == [*(str(n) for n in range(80 - ENDED_KEPT, 80)), "next"]


def test_what_a_page_asked_before_has_ended_too(run: RunFolder) -> None:
    """An end that nobody heard leaves no cell running for ever; another page's requests are in a turn of their own."""
    asked = Asked(run, "c")
    ask(asked, "a", "b")
    ask(asked, "other", page="q")
    ask(asked, "c")
    asked.end("b")
    asked.end("unknown")
    assert [one.id for one in asked.unfinished] == ["other", "c"]


def test_a_restart_voids_requests(run: RunFolder) -> None:
    """A new container never answers what the one before it was asked."""
    ask(Asked(run, "c"), "a")
    assert Asked(run, "d").requests == ()
    run.keep("cells.json", b'[{"id": "a"}]')  # as nobody writes it
    assert Asked(run, "c").requests == ()


def test_all_queued_cells_are_told_of(run: RunFolder) -> None:
    """Of "Run All", whoever printed in the gap and whoever is not known to have ended: silent and queued ones."""
    asked = Asked(run, "c")
    ask(asked, "seen", "printed", "silent", "queued")
    asked.end("seen")
    asked.end("printed")
    everything = [
        sent("execute_input", "seen", code=""),
        sent("stream", "seen", name="stdout", text="known"),
        sent("stream", "printed", name="stdout", text="new"),
        sent("status", "printed", execution_state="idle"),
        sent("execute_input", "silent", code=""),
    ]
    found = by_request(everything, {one.id for one in everything[2:4]}, asked.requests, KEY)
    assert [(one["msg_id"], one["whole"], len(one["messages"])) for one in found] == [
        ("printed", False, 2),
        ("silent", True, 1),
        ("queued", False, 0),
    ]
    assert found[0]["cell_id"] == "cell of printed"
    assert found[0]["code"] == fingerprint("printed")
    assert by_request(everything, {everything[2].id}, asked.requests, b"another key")[0]["messages"] == []


def test_what_is_known_is_not_read_again(run: RunFolder) -> None:
    """The kept files are read again only when the kernel has kept more."""
    file = run.io / "kept"
    file.write_bytes(b"")
    known = kept.read(run)
    assert kept.read(run, known) is known
    file.write_bytes(b"more")
    assert kept.read(run, known) is not known


def test_a_long_replay_leaves_others_their_turns() -> None:
    """A page that was left open gets 10,000 messages in order, and what comes meanwhile, with pauses in between."""
    passed: list[int] = []
    connection = SimpleNamespace(channels={"iopub": "iopub"}, handle_outgoing_message=lambda _, one: passed.append(one))
    turns = 0

    async def replay() -> None:
        nonlocal turns
        buffered = [("iopub", number) for number in range(10_000)]
        nudged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nudged.set_result(None)
        done = asyncio.ensure_future(ReplayingConnection._replay(connection, nudged, buffered))  # type: ignore[arg-type]
        while not done.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 5:
                buffered.append(("iopub", 10_000))

    asyncio.run(replay())
    assert passed == list(range(10_001))
    assert turns >= 100


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs it")
@pytest.mark.parametrize("code", ["", "print(1)\n", "x = 'Ärger 🙂'", "\r\n\t" * 5000])
def test_both_sides_have_the_same_fingerprint(code: str) -> None:
    """The lab extension finds a cell by its code with what the server noted of it."""
    source = PLACE.read_text().partition("function fingerprint")[2].replace("code: string): string", "code)", 1)
    script = f"function fingerprint{source}; console.log(fingerprint({json.dumps(code)}))"
    done = subprocess.run(["node", "-e", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == fingerprint(code)

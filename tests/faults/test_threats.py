"""The table of threats of docs/security.md: each row is a test here, or names the one elsewhere that holds it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session

from tests.live.conftest import install
from tests.live.driving import Driven, kernel
from tfgpu_kernel import mounts
from tfgpu_kernel.config import MountRequest
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import MountRefused
from tfgpu_kernel.labels import KIND, KIND_KERNEL, UID
from tfgpu_kernel.provisioner import TfgpuProvisioner
from tfgpu_kernel.sweep import sweep

from .serving import TOKEN, Server

NOBODY = 65534


def inside(driven: Driven) -> dict[str, Any]:
    """Return what the engine knows of a kernel's container."""
    provisioner = driven.manager.provisioner
    assert isinstance(provisioner, TfgpuProvisioner)
    output = subprocess.run(["docker", "inspect", provisioner.container], check=True, capture_output=True).stdout
    record: dict[str, Any] = json.loads(output)[0]
    return record


def folder(driven: Driven) -> Path:
    """Return a kernel's run folder."""
    provisioner = driven.manager.provisioner
    assert isinstance(provisioner, TfgpuProvisioner) and provisioner.run is not None
    return provisioner.run.path


async def test_cis_docker_benchmark(kernels: Path, workspace: Path) -> None:
    """CIS Docker Benchmark 1.6, chapter 5 (running containers): each check that can be read off the container."""
    async with kernel(workspace) as driven:
        record = inside(driven)
    host, mode = record["HostConfig"], record["HostConfig"]["NetworkMode"]
    lent = [mount for mount in record["Mounts"] if mount["Destination"].startswith("/tfgpu/site/")]
    assert not any(mount["RW"] for mount in lent), "pip's settings and the host's public certificates"
    sources = [mount["Source"] for mount in record["Mounts"] if mount not in lent]
    checks = {
        "5.4 capabilities": host["CapDrop"] == ["ALL"] and not host["CapAdd"],
        "5.5 privileged": host["Privileged"] is False,
        "5.6 sensitive host folders": not any(
            source == path or source.startswith(f"{path}/")
            for source in sources
            for path in ("/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
        ),
        "5.7 no sshd": record["Config"]["Cmd"][0].rpartition("/")[2].startswith("python"),
        "5.8, 5.9, 5.14 ports": not host["PortBindings"] and not record["NetworkSettings"]["Ports"],
        "5.10 host network": mode != "host",
        "5.15 restart policy": host["RestartPolicy"]["Name"] in {"", "no"},
        "5.16 host pid": host["PidMode"] == "",
        "5.17 host ipc": host["IpcMode"] == "private",
        "5.18 host devices": not host["Devices"],
        "5.20 mount propagation": all(mount["Propagation"] in {"", "rprivate"} for mount in record["Mounts"]),
        "5.21 host uts": host["UTSMode"] == "",
        "5.22 seccomp": not any("seccomp" in option for option in host["SecurityOpt"]),
        "5.25 cgroup": host["CgroupParent"] == "",
        "5.26 no new privileges": "no-new-privileges" in host["SecurityOpt"],
        "5.29 pids": host["PidsLimit"] > 0,
        "5.31 host user namespace": host["UsernsMode"] == "",
        "5.32 the engine's socket": not any(source.endswith("docker.sock") for source in sources),
    }
    assert [name for name, holds in checks.items() if not holds] == []


async def test_the_kernel_has_no_rights(kernels: Path, workspace: Path) -> None:
    """In the kernel: no effective capability, no new privileges, a seccomp filter."""
    async with kernel(workspace) as driven:
        status = await driven.run("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


@contextlib.contextmanager
def _told_by_events(server: Server) -> Iterator[list[str]]:
    """Listen to Jupyter's events, as a browser does, for the time of the block; the list is filled at its end."""
    told: list[str] = []
    url = f"ws://127.0.0.1:{server.port}/api/events/subscribe"
    connection = websocket.create_connection(url, header={"Authorization": f"token {TOKEN}"}, timeout=1)
    try:
        yield told
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            while True:
                told.append(str(connection.recv()))
    finally:
        connection.close()


def _told_by_the_next(server: Server, kernel_id: str) -> dict[str, str]:
    """Let a page leave a cell that prints on, kill the server, and return what the next one says of it all."""
    with server.page(kernel_id) as page:
        request = page.send(f"import time\nwhile True:\n    print({kernel_id!r})\n    time.sleep(0.1)", "c1")
        page.until(request, lambda text: kernel_id in text)
        server.kill()
    server.start()
    kept = server.get(f"tfgpu/kept/{kernel_id}").text
    return {"tfgpu/kept": kept, "next sessions": server.get("api/sessions").text, "next log": server.log.read_text()}


def test_the_key_is_nowhere_but_in_its_files(server: Server) -> None:
    """Not in inspect, any process's arguments, the logs, the engine's events or Jupyter's, REST answers, those of the
    next server included; files are 0600 in 0700."""
    began = int(time.time()) - 1
    with _told_by_events(server) as told:
        kernel_id = server.session("key.ipynb")["kernel"]["id"]
        with server.page(kernel_id) as page:
            page.run("print(1)")
    runs = (server.root.parent / "runtime/tfgpu").iterdir()
    run = next(one for one in runs if (one / "handover.json").exists())  # a kernel may be made ready beside it
    key = json.loads((run / "handover.json").read_text())["connection"]["key"]
    name = f"tfgpu-{run.name}"
    places = {
        "inspect": subprocess.run(["docker", "inspect", name], check=True, capture_output=True, text=True).stdout,
        "container's log": subprocess.run(["docker", "logs", name], check=True, capture_output=True, text=True).stdout,
        "Jupyter's events": "".join(told),
        "engine's events": subprocess.run(
            ["docker", "events", f"--since={began}", f"--until={int(time.time())}", "--format", "{{json .}}"],
            check=True, capture_output=True, text=True,
        ).stdout,
        "server's log": server.log.read_text(),
        "arguments": "".join(_text(path) for path in Path("/proc").glob("[0-9]*/cmdline")),
        "environments": "".join(_text(path) for path in Path("/proc").glob("[0-9]*/environ")),
        **{
            path: server.get(path).text
            for path in (
                "api/sessions", "api/kernels", f"api/kernels/{kernel_id}", "api/status", "tfgpu/launches",
                "tfgpu/deaths", "tfgpu/notices", "tfgpu/engine", "tfgpu/gpus", "tfgpu/idle", "tfgpu/doctor",
                "api/kernelspecs", "api/contents", "api/terminals",
            )
        },
        "tfgpu/adopt": server.call("POST", "tfgpu/adopt/none", {}, check=False).text,
        **_told_by_the_next(server, kernel_id),
        "processes": subprocess.run(["docker", "top", name, "-ef"], check=True, capture_output=True, text=True).stdout,
        "logs": subprocess.run(
            ["jupyter-tfgpu", "logs", "--json", kernel_id], check=True, capture_output=True, text=True
        ).stdout,
        "ps": subprocess.run(
            ["jupyter-tfgpu", "ps", "--json"], check=True, capture_output=True, text=True
        ).stdout,
    }  # fmt: skip
    for place in ("ps", "inspect", "server's log", "Jupyter's events", "tfgpu/launches", "tfgpu/kept"):
        assert kernel_id in places[place], place
    assert name.removeprefix("tfgpu-") in places["engine's events"]
    assert [place for place, text in places.items() if key in text] == []
    assert run.stat().st_mode & 0o777 == (run / "io").stat().st_mode & 0o777 == 0o700
    for file in (run / "handover.json", run / "io/connection.json"):
        assert file.stat().st_mode & 0o777 == 0o600


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


async def test_a_message_with_another_key_is_ignored(kernels: Path, workspace: Path) -> None:
    """Who reaches the socket, but has not the key, gets no answer."""
    async with kernel(workspace) as driven:
        info = driven.manager.get_connection_info()
        forged = Session(key=b"another key")
        dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(f"ipc://{info['ip']}-{info['shell_port']}")
        forged.send(dealer, "execute_request", {"code": "forged = 1", "silent": True})
        assert not await asyncio.to_thread(dealer.poll, 1500)
        dealer.close()
        assert "NameError" in await driven.run("forged")


async def test_another_user_reaches_nothing(kernels: Path, workspace: Path) -> None:
    """A second user of the machine can neither enter the run folder, nor read the key, nor connect."""
    async with kernel(workspace) as driven:
        run = folder(driven)
        # The test's own parents are closed to others already: what is tested is the run folder's own wall.
        for parent in run.parents:
            if parent != Path("/") and str(parent) != "/tmp":
                parent.chmod(parent.stat().st_mode | 0o055)
        run.parent.chmod(0o755)
        script = f"""
import os, socket
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
for attempt in (
    lambda: os.listdir({str(run)!r}),
    lambda: open({str(run / "handover.json")!r}),
    lambda: open({str(run / "io/connection.json")!r}),
    lambda: socket.socket(socket.AF_UNIX).connect({str(run / "io/k-1")!r}),
):
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit("it worked")
"""
        done = subprocess.run(["python3", "-c", script], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


_CONNECT = """
import socket, sys
for port in map(int, sys.argv[2:]):
    with socket.socket() as probe:
        probe.settimeout(2)
        error = probe.connect_ex((sys.argv[1], port))
    print(port, error, flush=True)
    if port == 5000 and error:
        break
"""
_LISTENING = """
rows = [l.split() for p in ('tcp', 'tcp6') for l in open('/proc/net/' + p).read().splitlines()[1:]]
print(sorted({int(r[1].rpartition(':')[2], 16) for r in rows if r[3] == '0A'}))
"""


@pytest.fixture
def network() -> Iterator[str]:
    """Make a network of Docker's with a name; its containers reach each other, whatever else is let through."""
    name = f"tfgpu-t{os.getpid() % 10**6}"
    bridge = f"--opt=com.docker.network.bridge.name={name}"
    with contextlib.ExitStack() as undo:
        subprocess.run(["docker", "network", "create", bridge, name], check=True, capture_output=True)
        undo.callback(subprocess.run, ["docker", "network", "rm", name], check=True, capture_output=True)
        if os.geteuid() == 0 and shutil.which("iptables"):  # an engine may leave the packet filter alone
            rule = ["FORWARD", "-i", name, "-o", name, "-j", "ACCEPT"]
            subprocess.run(["iptables", "-I", *rule], check=True, capture_output=True)
            undo.callback(subprocess.run, ["iptables", "-D", *rule], check=True, capture_output=True)
        yield name


@pytest.mark.parametrize("mode", ["bridge", "named", "none"])
async def test_a_neighbour_reaches_nothing(
    kernels: Path, workspace: Path, slim: str, network: str, mode: str
) -> None:
    """A container on the kernel's network reaches none of its ports, though it reaches one that a cell opens; and
    without a network there is no address to connect to."""
    chosen = network if mode == "named" else mode
    install(kernels.parents[1], "net", "--image", slim, "--gpus", "none", "--network", chosen)
    async with kernel(workspace, "net") as driven:
        ports = ast.literal_eval(await driven.run(_LISTENING))
        found = inside(driven)["NetworkSettings"]["Networks"]
        address = found.get(chosen, {}).get("IPAddress", "")
        if mode == "none":
            assert not address
            assert await driven.run("import os; print(os.listdir('/sys/class/net'))") == "['lo']\n"
            return
        await driven.run("import socket; s = socket.create_server(('0.0.0.0', 5000))")
        tried = ["5000", *(str(port) for port in {*ports, *range(1, 1025), *range(50000, 51024)} - {5000})]
        done = subprocess.run(
            ["docker", "run", "--rm", f"--network={chosen}", slim, "python3", "-c", _CONNECT, address, *tried],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    answers = dict(line.split() for line in done.splitlines())
    if answers["5000"] != "0" and mode == "bridge":
        pytest.skip("on this engine's own network containers reach no port of each other at all")
    assert len(answers) == len(tried)
    assert [port for port, error in answers.items() if error == "0"] == ["5000"]


def test_the_hosts_network_is_never_lent(kernels: Path, slim: str) -> None:
    """There every port that a cell opens would be the machine's: the setting is refused."""
    command = [sys.executable, "-m", "tfgpu_kernel.cli", "install", "--name", "host", "--prefix", str(kernels)]
    done = subprocess.run(
        [*command, "--image", slim, "--network", "host"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "the host's own is never lent" in done.stderr


async def test_a_fork_bomb_meets_its_limit(kernels: Path, workspace: Path, slim: str) -> None:
    """Processes end at the limit; a neighbour's cells go on, and the kernel itself, too."""
    install(kernels.parents[1], "few", "--image", slim, "--gpus", "none", "--pids-limit", "100")
    async with kernel(workspace, "few") as bomb, kernel(workspace) as neighbour:
        text = await bomb.run(
            "import os, time\nmade = 0\ntry:\n"
            "    while made < 1000:\n        if os.fork() == 0:\n            time.sleep(5); os._exit(0)\n"
            "        made += 1\nexcept OSError as error: print('limit after', made < 100, type(error).__name__)\n"
            "for _ in range(made): os.wait()"
        )
        assert "limit after True BlockingIOError" in text
        assert await neighbour.run("print(2 + 2)") == "4\n"
        assert await bomb.run("print('alive')") == "alive\n"


async def test_the_servers_environment_stays_outside(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret in the server's environment is neither in the container's configuration nor in the kernel."""
    monkeypatch.setenv("TFGPU_CANARY", "sings-loudly")
    async with kernel(workspace) as driven:
        assert "sings-loudly" not in json.dumps(inside(driven))
        assert "sings-loudly" not in await driven.run("import os; print(dict(os.environ))")


async def test_an_environment_asks_for_no_further_gpu(kernels: Path, workspace: Path, slim: str) -> None:
    """NVIDIA_VISIBLE_DEVICES=all in the kernel's settings lends nothing: ours wins."""
    install(
        kernels.parents[1], "greedy", "--image", slim, "--gpus", "none", "--env", "NVIDIA_VISIBLE_DEVICES=all"
    )  # fmt: skip
    async with kernel(workspace, "greedy") as driven:
        assert await driven.run("import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'])") == "void\n"


async def test_a_strangers_container_survives_the_sweep(slim: str, engine: Engine, tmp_path: Path) -> None:
    """A container with some of our labels, but not all, is never removed."""
    made = subprocess.run(
        ["docker", "run", "-d", "--label", f"{KIND}={KIND_KERNEL}", "--label", f"{UID}={os.geteuid()}", slim,
         "sleep", "60"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    try:
        await sweep(engine, spare=False)
        assert (await engine.inspect(made))["State"]["Running"]
    finally:
        subprocess.run(["docker", "rm", "-f", made], check=True, capture_output=True)


PIECES = (
    "..", ".", "", "a", "b", "link-etc", "link-up", "link-root", "link-sock", "link-out", "in", "sock", "etc", "proc",
    "usr", "run", "dev", "..a", "a b", "é",
)  # fmt: skip


def _walked(start: str, steps: list[int]) -> str:
    """Return a path that is there, by as many steps from a folder, links and ways up among them."""
    for step in steps:
        there = [piece for piece in PIECES if os.path.lexists(f"{start}/{piece}")]
        start += "/" + there[step % len(there)] if there else ""
    return start


@pytest.mark.parametrize("paths", [500, pytest.param(10_000, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
def test_no_generated_mount_escapes(paths: int, tmp_path: Path) -> None:
    """Whatever path is asked for, what is mounted lies in the roots, is no system folder, and holds no socket: each by
    a rule of its own, since the roots may be the whole machine, and the socket lie in them."""
    allowed, work = tmp_path / "allowed", tmp_path / "work"
    for name in ("allowed/a/b/in", "allowed/a/b/sock", "allowed/a/in", "allowed/in", "cache", "outside/in", "work"):
        (tmp_path / name).mkdir(parents=True)
    (allowed / "link-out").symlink_to("../outside")
    (allowed / "a/link-etc").symlink_to("/etc")
    (allowed / "a/link-up").symlink_to("..")
    (allowed / "link-root").symlink_to("/")
    (allowed / "a/in/link-sock").symlink_to("../b/sock")
    engines = allowed / "a/b/sock/engine.sock"
    engines.touch()
    (tmp_path / "engine").symlink_to(engines)
    refused = {"lies in none of the folders": 0, "the machine's own system": 0, "the engine's socket": 0}
    mounted: dict[str, int] = {str(allowed): 0, "/": 0}

    @settings(max_examples=paths, deadline=None, database=None)
    @given(
        root=st.sampled_from([str(allowed), "/"]),
        start=st.sampled_from([str(allowed), str(allowed / "a"), str(allowed / "a/in"), str(tmp_path / "outside"), ""]),
        steps=st.lists(st.integers(0, len(PIECES)), max_size=6),
        pieces=st.lists(st.sampled_from(PIECES), max_size=1),
        slashes=st.integers(0, 3),
    )
    def judge(root: str, start: str, steps: list[int], pieces: list[str], slashes: int) -> None:
        asked = "/".join([_walked(start, steps), *pieces]) + "/" * slashes
        try:
            plan = mounts.plan(
                workspace=str(work), cwd=str(work), run_io=tmp_path, cache=tmp_path / "cache",
                further=[MountRequest(asked, "/data", read_only=False)], roots=[root], homes=[],
                sockets=[str(tmp_path / "engine")],
            )  # fmt: skip
        except MountRefused as refusal:
            for why in refused:
                refused[why] += why in refusal.message
            return
        mounted[root] += 1
        [bind] = [bind for bind in plan.binds if bind.target == "/data"]
        assert bind.source == os.path.realpath(bind.source)
        assert root == "/" or f"{bind.source}/".startswith(f"{root}/")
        assert bind.source not in {"/", "/usr", "/tmp", os.path.realpath("/bin")}
        assert bind.source.split("/")[1] not in {"etc", "proc", "run", "dev", "sys", "boot"}
        assert not str(engines).startswith(f"{bind.source}/")

    judge()
    assert all((*refused.values(), *mounted.values())), (refused, mounted)


@pytest.fixture
def raced(kernels: Path, workspace: Path, slim: str) -> Path:
    """Make the kernelspec ``race``, which mounts a folder of the workspace at /data; return that folder."""
    (workspace.parent / "outside").mkdir()
    (workspace.parent / "outside/secret").touch()
    swapped = workspace / "swapped"
    swapped.mkdir()
    install(
        kernels.parents[1], "race", "--image", slim, "--gpus", "none", "--workspace", str(workspace),
        "--mounts", f"{swapped}:/data:rw", "--mount-roots", str(workspace), "--env", f"PYTHONPATH={workspace}",
    )  # fmt: skip
    return swapped


@pytest.mark.parametrize("by", ["link", "folder"])
async def test_a_folder_replaced_between_check_and_create(
    workspace: Path, raced: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Docker resolves a path once more: what was put in a judged folder's place meanwhile meets neither a cell nor
    what the workspace has Python run at its start."""
    traces = workspace / "traces"
    (workspace / "sitecustomize.py").write_text(
        f"import os; open({str(traces)!r}, 'a').write(str(os.listdir('/data')))"
    )
    real = DockerEngine.create

    async def create(self: DockerEngine, body: dict[str, Any], name: str = "") -> str:
        if KIND_KERNEL not in body["Labels"].values():  # a look into the image
            return await real(self, body, name)
        raced.rename(workspace / "judged")
        if by == "link":
            raced.symlink_to(workspace.parent / "outside")
        else:
            (workspace.parent / "outside").rename(raced)
        return await real(self, body, name)

    monkeypatch.setattr(DockerEngine, "create", create)
    with pytest.raises(MountRefused, match="replaced by another"):
        async with kernel(workspace, "race"):
            pass
    assert not traces.exists()
    monkeypatch.setattr(DockerEngine, "create", real)
    shutil.rmtree(raced) if by == "folder" else raced.unlink()
    (workspace / "judged").rename(raced)
    async with kernel(workspace, "race") as driven:
        assert await driven.run("print(open('traces').read())") == "[]\n"  # in its own time it does run, and once


_SWAPPER = """
import ctypes, os, sys
first, second = (os.fsencode(path) for path in sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
while os.getppid() != 1:
    exchange(-100, first, -100, second, 2)  # RENAME_EXCHANGE: there is always one of the two
"""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_a_folder_swapped_at_full_speed(workspace: Path, raced: Path) -> None:
    """A folder and a link that change places all the time: 100 starts show the folder, or are refused; Docker was
    misled in some, and each time that was found out."""
    (workspace / "link").symlink_to(workspace.parent / "outside")
    (raced / "allowed").touch()
    swapper = subprocess.Popen(["python3", "-c", _SWAPPER, str(raced), str(workspace / "link")])
    seen = {"started": 0, "refused": 0, "found out": 0}
    try:
        for _ in range(int(os.environ.get("TFGPU_SWAPPED_STARTS", "100"))):
            try:
                async with kernel(workspace, "race") as driven:
                    assert await driven.run("import os; print(os.listdir('/data'))") == "['allowed']\n"
                    seen["started"] += 1
            except MountRefused as refusal:
                seen["found out" if "replaced by another" in refusal.message else "refused"] += 1
    finally:
        swapper.kill()
        swapper.wait()
    print(seen)
    assert seen["started"] and seen["refused"] and seen["found out"]


def test_no_port_of_this_machine_is_opened(server: Server) -> None:
    """Starting a kernel opens no listening socket on the host."""
    def listening() -> set[str]:
        rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
        return {row[1] for row in rows if row[3] == "0A"}

    before = listening()
    server.session("ports.ipynb")
    assert listening() - before == set()

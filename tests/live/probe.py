"""What a kernel is asked to find out whether it is like another: by its cells, its channels and its container."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from typing import Any, Final

from .driving import SECONDS, Driven

IN_A_CELL: Final = r"""
import gc, locale, os, random, resource, signal, sys, threading, time, warnings
def show(what, told): print(what + ":", told)
def read(path):
    try:
        return open(path).read().strip()
    except OSError as error:
        return type(error).__name__
volatile = {"HOSTNAME", "JPY_SESSION_NAME"}
show("environment", sorted((k, v) for k, v in os.environ.items() if k not in volatile))
show("folder", [os.getcwd(), sys.path, _dh, os.environ.get("JPY_SESSION_NAME"), globals().get("__session__")])
show("arguments", [sys.argv, sys.executable, list(sys.flags), sys.getrecursionlimit(), gc.get_threshold()])
show("threads", sorted(t.name.split("-")[0].split(" ")[0] + " " + type(t).__name__ for t in threading.enumerate()))
show("signals", [(int(n), getattr(signal.getsignal(n), "__qualname__", str(signal.getsignal(n))))
                 for n in range(1, 32) if n not in (9, 19)])
show("masked", sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
show("modules", sorted({n.partition(".")[0] for n in sys.modules}))
show("importers", [getattr(f, "__name__", type(f).__name__) for f in sys.meta_path])
show("history", [_ih, _oh, get_ipython().execution_count, list(get_ipython().history_manager.get_tail(5))])
show("names", [sorted(n for n in globals() if not n.startswith("_")), sorted(get_ipython().user_ns_hidden)[:200]])
show("warnings", [f[:2] + (f[2].__name__,) for f in warnings.filters])
show("limits", [(n, resource.getrlimit(getattr(resource, n))) for n in sorted(dir(resource)) if "RLIMIT_" in n])
groups = "/sys/fs/cgroup/"
show("cgroup", [read(groups + n) for n in (
    "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.soft_limit_in_bytes",
    "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "cpu/cpu.shares", "pids/pids.max", "cpuset/cpuset.cpus",
    "memory.max", "memory.swap.max", "memory.high", "cpu.max", "cpu.weight", "pids.max")])
status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines())
show("process", [(n, status.get(n)) for n in (
    "Name", "Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapEff", "CapBnd", "NoNewPrivs",
    "Seccomp", "Cpus_allowed")] + [os.nice(0), read("/proc/self/oom_score_adj"), read("/proc/1/comm")])
show("mounts", sorted((l.split()[4], l.split()[5]) for l in read("/proc/self/mountinfo").splitlines()))
show("files", sorted(os.path.join(d, f) for top in (os.path.expanduser("~"), "/tmp", "/var/tmp", "/dev/shm", "/tfgpu")
                     for d, _, files in os.walk(top) for f in files
                     if "/__pycache__" not in d and not d.startswith("/tfgpu/site/")))
show("descriptors", sorted({os.readlink("/proc/self/fd/" + n).partition(":")[0] for n in os.listdir("/proc/self/fd")
                            if os.path.lexists("/proc/self/fd/" + n)}))
show("locale", [locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding(), sys.stdout.encoding, time.tzname])
show("streams", [type(s).__module__ + "." + type(s).__name__ for s in (sys.stdin, sys.stdout, sys.stderr)])
show("hooks", [{n: len(c) for n, c in get_ipython().events.callbacks.items()}, sys.excepthook.__name__,
               sys.displayhook.__class__.__name__, len(sys.path_hooks), os.putenv.__module__])
mine = object()
show("garbage", [gc.isenabled(), getattr(gc, "get_freeze_count", int)() > 1000,
                 [type(r) for r in gc.get_referrers(mine)]])
show("chance", random.random() != random.Random(0).random())
del show, read, mine, volatile, groups, status
"""
"""Prints what a kernel is, a line each; what names the kernel itself is left out."""


async def of_cells(driven: Driven) -> dict[str, str]:
    """Return what cells find out."""
    told = await driven.run(IN_A_CELL)
    return dict(line.split(": ", 1) for line in told.splitlines())


async def of_channels(driven: Driven) -> dict[str, Any]:
    """Return what a client finds out: input, comms, debugger, subshells, interrupt, completion, connection."""
    return {
        "input": await _input(driven),
        "comms": await _comms(driven),
        "debugger": await _debugger(driven),
        "subshells": await _subshell(driven),
        "connection": await _connection(driven),
        "completion": (await _ask(driven, "shell", "complete_request", {"code": "impor", "cursor_pos": 5}))["matches"],
        # The banner ends with a tip of the day.
        "info": {**await _ask(driven, "shell", "kernel_info_request", {}), "banner": ""},
        "history": (await _ask(driven, "shell", "history_request", {
            "raw": True, "output": False, "hist_access_type": "range", "session": 0, "start": 0, "stop": 2,
        }))["history"],
    }  # fmt: skip


def of_container(container: str) -> dict[str, Any]:
    """Return what the engine says of a kernel's container, less what names the kernel itself."""
    shown = subprocess.run(["docker", "inspect", container], check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(shown.stdout)[0]
    labels = dict(told["Config"]["Labels"])
    run = labels.pop("io.tfgpu.run")
    binds = [(mount["Destination"], mount["RW"], mount["Source"].replace(run, "RUN")) for mount in told["Mounts"]]
    host = {name: value for name, value in told["HostConfig"].items() if name not in ("Mounts", "ConsoleSize")}
    own = ("Hostname", "Labels", "Env", "WorkingDir")
    return {
        "labels": labels,
        "mounts": sorted(bind for bind in binds if bind[0] != "/tfgpu/packages"),
        **{f"host {name}": value for name, value in host.items()},
        **{f"container {name}": value for name, value in told["Config"].items() if name not in own},
    }


async def _ask(driven: Driven, channel: str, kind: str, content: dict[str, Any], **header: Any) -> dict[str, Any]:
    """Send a request and return the content of its answer."""
    client = driven.client
    message = client.session.msg(kind, content)
    message["header"].update(header)
    sent = getattr(client, f"{channel}_channel")
    sent.send(message)
    while True:
        answer = await sent.get_msg(timeout=SECONDS)
        if answer["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            told: dict[str, Any] = answer["content"]
            return told


async def _input(driven: Driven) -> str:
    told: list[str] = []

    def asked(message: dict[str, Any]) -> None:
        told.append(message["content"]["prompt"])
        driven.client.input("me")

    await driven.client.execute_interactive(
        "print(input('who? '))", allow_stdin=True, stdin_hook=asked, timeout=SECONDS,
        output_hook=lambda message: told.append(message["content"].get("text", "")),
    )  # fmt: skip
    return "".join(told)


_ECHO: Final = """
def opened(comm, message):
    comm.on_msg(lambda message: comm.send({"back": message["content"]["data"]}))
get_ipython().kernel.comm_manager.register_target("echo", opened)
del opened
"""


async def _comms(driven: Driven) -> Any:
    await driven.run(_ECHO)
    client = driven.client
    opening = {"comm_id": "1", "target_name": "echo", "data": {}}
    client.shell_channel.send(client.session.msg("comm_open", opening))
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": "1", "data": {"n": 1}}))
    while True:
        message = await client.iopub_channel.get_msg(timeout=SECONDS)
        if message["msg_type"] == "comm_msg":
            break
    known = await _ask(driven, "shell", "comm_info_request", {"target_name": "echo"})
    await driven.run("get_ipython().kernel.comm_manager.get_comm('1').close()")
    return [message["content"], known["comms"]]


async def _debugger(driven: Driven) -> Any:
    """Let the debugger begin, stop in a cell, and end, as JupyterLab's does."""

    async def debug(number: int, command: str, arguments: dict[str, Any]) -> Any:
        content = {"type": "request", "seq": number, "command": command, "arguments": arguments}
        answer = await asyncio.wait_for(_ask(driven, "control", "debug_request", content), SECONDS)
        return _plain({name: answer.get(name) for name in ("command", "success", "body")})

    if "debugger" not in (await _ask(driven, "shell", "kernel_info_request", {})).get("supported_features", []):
        return None
    setting = {"clientID": "probe", "adapterID": "", "pathFormat": "path", "linesStartAt1": True}
    cell = "stopped = 1\n"
    return [
        await debug(1, "debugInfo", {}),
        await debug(2, "initialize", setting),
        await debug(3, "attach", {}),
        await debug(4, "dumpCell", {"code": cell}),
        await debug(5, "configurationDone", {}),
        await debug(6, "inspectVariables", {}),
        await debug(7, "disconnect", {"restart": False, "terminateDebuggee": False}),
    ]


def _plain(told: Any) -> Any:
    """Leave out what no two kernels share: numbers of processes, addresses, folders of their own."""
    text = json.dumps(told, sort_keys=True)
    text = re.sub(r"ipykernel_\d+", "ipykernel_N", re.sub(r"0x[0-9a-f]+", "0x0", text))
    return json.loads(re.sub(r'"(hashSeed|tmpFilePrefix|variablesReference)": [^,}]+', r'"\1": 0', text))


async def _subshell(driven: Driven) -> Any:
    """Run a cell in a subshell while the main shell is busy; None where the kernel has no subshells."""
    features = (await _ask(driven, "shell", "kernel_info_request", {})).get("supported_features", [])
    if "kernel subshells" not in features:
        return None
    made = await _ask(driven, "control", "create_subshell_request", {})
    code = "import threading; main = threading.current_thread() is threading.main_thread()"
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {"main": "main"},
               "allow_stdin": False, "stop_on_error": True}  # fmt: skip
    busy = driven.client.execute("import time; time.sleep(0.5)", store_history=False)
    answer = await _ask(driven, "shell", "execute_request", content, subshell_id=made["subshell_id"])
    while (await driven.client.get_shell_msg(timeout=SECONDS))["parent_header"].get("msg_id") != busy:
        pass
    listed = await _ask(driven, "control", "list_subshell_request", {})
    gone = await _ask(driven, "control", "delete_subshell_request", {"subshell_id": made["subshell_id"]})
    return [made["status"], answer["user_expressions"]["main"]["data"], len(listed["subshell_id"]), gone["status"]]


async def _connection(driven: Driven) -> Any:
    """Whether %connect_info tells the connection that the client has; and its form."""
    told = await driven.run("%connect_info")
    shown = json.loads(told[told.index("{") : told.rindex("}") + 1])
    mine = driven.manager.get_connection_info(session=False)
    key = mine["key"].decode() if isinstance(mine["key"], bytes) else mine["key"]
    rest = re.sub(r"[0-9a-f]{8,}", "ID", told[-300:])
    return [shown["key"] == key, sorted(shown), shown["ip"], shown["transport"], rest]

#!/usr/bin/env bash
# Make sure that a Docker engine answers: the one that is there, else Debian's or Ubuntu's docker.io, installed
# and started. Needs .venv (an engine is asked through docker-py; no docker command is needed).
set -euo pipefail
cd "$(dirname "$0")/.."
log=${TFGPU_DOCKERD_LOG:-/var/log/tfgpu-dockerd.log}

stop() {
    printf 'error: %s\n' "$@" >&2
    exit 1
}

# 0: answers; 1: nobody there; 2: the one that was named doesn't answer; 3: there, but not for this user
ask() {
    .venv/bin/python - <<'PYTHON'
import asyncio, os, sys
from tfgpu_kernel.engine import find
from tfgpu_kernel.errors import EngineNotPermitted, TfgpuError

def chosen():
    """Whether Docker's settings name an engine: another one would not be asked."""
    try:
        return bool(find.context(os.environ))
    except TfgpuError:
        return True

async def main():
    try:
        info = await find.engine().info()
    except EngineNotPermitted as error:
        print(error, file=sys.stderr)
        return 3
    except TfgpuError as error:
        if not chosen():
            return 1
        print(error, file=sys.stderr)
        return 2
    print(f"    Docker engine {info.version} answers at {find.engine().address}")
    return 0

sys.exit(asyncio.run(main()))
PYTHON
}

answers() {
    code=0
    ask || code=$?
    if [ $code -eq 3 ] && command -v sudo >/dev/null; then
        echo "To go on without logging in anew: sudo usermod -aG docker \"\$USER\" && sg docker -c 'make ...'" >&2
    fi
    [ $code -lt 2 ] || exit 1
    return $code
}

# Whether root runs a dockerd. Not by pgrep: a minimal system has none, and a user's own (rootless) is another matter.
runs() {
    local folder
    for folder in /proc/[0-9]*; do
        [ "$(cat "$folder/comm" 2>/dev/null)" = dockerd ] && [ "$(stat -c %u "$folder" 2>/dev/null)" = 0 ] && return 0
    done
    return 1
}

answers && exit 0
[ -z "${DOCKER_HOST:-}" ] || stop "No engine answers at DOCKER_HOST=$DOCKER_HOST. Start it, or unset DOCKER_HOST."

# Two engines on one data folder would ruin it.
! runs ||
    stop "A Docker engine runs, but does not answer. Restart it: sudo systemctl restart docker (or end dockerd, and run make again)."

command -v dockerd >/dev/null || scripts/apt.sh docker.io iptables ca-certificates

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; } ||
        stop "The Docker engine is installed but does not run. Start it as root: systemctl start docker"
    as_root=(sudo)
fi
echo "    starting the Docker engine"
if [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl start docker
else
    # No systemd (a container, a minimal machine): the engine runs in the background until the machine stops.
    # No dockerd runs, so a pid file is an earlier one's, and its number may be another process's by now.
    "${as_root[@]}" rm -f /var/run/docker.pid
    "${as_root[@]}" sh -c "setsid nohup dockerd >>'$log' 2>&1 </dev/null &"
fi
for second in $(seq 60); do
    answers && exit 0
    sleep 1
    if [ ! -d /run/systemd/system ] && [ "$second" -ge 3 ] && ! runs; then
        tail -n 5 "$log" >&2
        stop "dockerd ended at once; its last words are above. In a container it needs one that is privileged, or the host's socket (-v /var/run/docker.sock:/var/run/docker.sock)."
    fi
done
stop "The Docker engine did not answer within a minute. Read its log: journalctl -u docker, or $log"

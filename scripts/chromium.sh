#!/usr/bin/env bash
# Make sure that there is a Chromium that tests can drive: TFGPU_CHROMIUM, one that is here, else Debian's.
# Ubuntu's chromium is a stub that wants snap, whose sandbox keeps tests out; there it says what to do instead.
set -euo pipefail
cd "$(dirname "$0")/.."

# A stub answers --version with advice and an exit code; a snap answers from /snap.
drivable() {
    local found
    found=$(command -v "$1" 2>/dev/null) || return 1
    case "$(readlink -f "$found")" in /snap/* | */snap) return 1 ;; esac
    "$found" --version 2>/dev/null | grep -qE '^(Chromium|Google Chrome) [0-9]'
}

usable() {
    for candidate in ${TFGPU_CHROMIUM:-chromium google-chrome chromium-browser}; do
        drivable "$candidate" && return 0
    done
    return 1
}

usable && exit 0
if [ -n "${TFGPU_CHROMIUM:-}" ]; then
    echo "error: TFGPU_CHROMIUM=$TFGPU_CHROMIUM is no Chromium that runs. Correct it, or unset it." >&2
    exit 1
fi
if [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" != ubuntu ]; then
    scripts/apt.sh chromium
fi
usable || {
    echo "error: No Chromium that tests can drive is here (Ubuntu's own is a snap, which they can't). Install Google Chrome's" \
        ".deb (https://www.google.com/chrome), or name another: make TFGPU_CHROMIUM=/path/to/chrome test" >&2
    exit 1
}

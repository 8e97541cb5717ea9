#!/usr/bin/env bash
# Make sure that Debian packages are installed: apt.sh PACKAGE...
# Uses apt-get as root or through sudo; where it may not, says the one command that someone else has to run.
# TFGPU_NO_APT=1 forbids it to install anything.
set -euo pipefail

missing=()
for package in "$@"; do
    if ! dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
        missing+=("$package")
    fi
done
[ ${#missing[@]} -eq 0 ] && exit 0

stop() {
    printf 'error: %s\n' "$@" >&2
    exit 1
}

command -v apt-get >/dev/null ||
    stop "This is neither Debian nor Ubuntu. Install what Debian calls '${missing[*]}' in this system's own way, and run make again."
[ "${TFGPU_NO_APT:-}" != 1 ] ||
    stop "TFGPU_NO_APT=1 forbids to install system packages. Run: sudo apt-get install ${missing[*]}"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; } ||
        stop "Installing system packages needs root. Run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
fi

# A fresh machine's own updater may hold the lock for some minutes, and a fresh image has no package lists.
install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq)
printf '    apt-get install %s\n' "${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "${as_root[@]}" "${install[@]}" install --yes --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    "${as_root[@]}" "${install[@]}" update >"$log" 2>&1 &&
        "${as_root[@]}" "${install[@]}" install --yes --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        stop "apt-get could not install ${missing[*]}. See its words above; then run: sudo apt-get install ${missing[*]}"
    }
fi

#!/usr/bin/env bash
# Make sure that Debian packages are installed: apt.sh PACKAGE...
# Uses apt-get as root or through sudo; where it may not, says the one command that someone else has to run.
# TFGPU_NO_APT=1 forbids it to install anything.
set -euo pipefail

# Without dpkg (Fedora, Arch), a program by the package's name counts as the package.
here() {
    if command -v dpkg-query >/dev/null; then
        dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
    else
        command -v "$1" >/dev/null
    fi
}

missing=()
for package in "$@"; do
    here "$package" || missing+=("$package")
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
# sudo drops the proxy's variables. Nothing is removed to make room: podman-docker for instance excludes docker.io.
install=(env DEBIAN_FRONTEND=noninteractive)
for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || install+=("$name=${!name}")
done
install+=(apt-get -o DPkg::Lock::Timeout=600 -qq --no-remove)
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

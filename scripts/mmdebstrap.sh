#!/usr/bin/env bash
# Make sure that images can be built from Debian's packages: mmdebstrap, and what it takes without root.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(mmdebstrap)
[ "$(id -u)" -eq 0 ] || packages+=(uidmap)
exec scripts/apt.sh "${packages[@]}"

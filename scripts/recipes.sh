#!/usr/bin/env bash
# Make the tests' images that are named: recipes.sh NAME... (tests/images/recipes.py). What that takes is installed
# first; Debian 13 has the command docker in a package of its own, which docker.io there only recommends.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
scripts/mmdebstrap.sh
command -v docker >/dev/null || scripts/apt.sh docker-cli
exec python -m tests.images.recipes "$@"

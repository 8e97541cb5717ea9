#!/usr/bin/env bash
# Make the virtual environment .venv, with a Python of at least 3.10 (TFGPU_PYTHON chooses which).
# Does nothing when it is there and works; makes it anew when its Python has gone or the clone was moved.
set -euo pipefail
cd "$(dirname "$0")/.."

# The folder that a venv was made in is written into its scripts: a copy or a move breaks them.
born=.venv/made-in
if [ "$(cat $born 2>/dev/null)" = "$PWD" ] && .venv/bin/python -c 'import pip' 2>/dev/null; then
    echo "    .venv is there: $(.venv/bin/python --version)"
    exit 0
fi

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

python=
candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
[ -z "${TFGPU_PYTHON:-}" ] || candidates=("$TFGPU_PYTHON")
for candidate in "${candidates[@]}"; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$("${TFGPU_PYTHON:-python3}" --version 2>&1 || true)
    echo "error: Python 3.10 or newer is needed (found: ${found:-none}). Install one and name it: make TFGPU_PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi

# Debian and Ubuntu keep what venv needs in a package of its own, named after the exact version.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    scripts/apt.sh "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
fi

echo "    making .venv with $("$python" --version)"
"$python" -m venv --clear .venv
echo "$PWD" >$born

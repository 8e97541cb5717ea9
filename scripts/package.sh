#!/usr/bin/env bash
# Install this package into .venv, editable and with what the tests need, when anything it is built from has
# changed: the Python sources are used where they are, all else (metadata, lab extension, kernel specs) is copied.
# Needs .venv and Node.js.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

inputs=(pyproject.toml README.md kernelspecs jupyter-config
    labextension/package.json labextension/yarn.lock labextension/tsconfig.json
    labextension/install.json labextension/scope.txt labextension/.yarnrc.yml
    labextension/src labextension/style labextension/schema)
stamp=.venv/package-inputs
# find fails where one of them is not there, which is no reason to stop.
now=$({ find "${inputs[@]}" -type f -print0 2>/dev/null || true; } | sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat $stamp 2>/dev/null)" = "$now" ]; then
    echo "    tfgpu-kernel is installed, and nothing it is built from has changed"
    exit 0
fi

# The lab extension's packages come through Yarn, which reads neither the usual variables nor npm's settings.
export YARN_HTTP_PROXY="${YARN_HTTP_PROXY:-${http_proxy:-${HTTP_PROXY:-}}}"
export YARN_HTTPS_PROXY="${YARN_HTTPS_PROXY:-${https_proxy:-${HTTPS_PROXY:-}}}"
[ -n "$YARN_HTTP_PROXY" ] || unset YARN_HTTP_PROXY
[ -n "$YARN_HTTPS_PROXY" ] || unset YARN_HTTPS_PROXY
registry() { npm config get registry "$@" 2>/dev/null || true; }
if [ -z "${YARN_NPM_REGISTRY_SERVER:-}" ]; then
    chosen=$(registry)
    usual=$(unset npm_config_registry NPM_CONFIG_REGISTRY; registry --userconfig=/dev/null --globalconfig=/dev/null.none)
    [ -z "$usual" ] || [ "$chosen" = "$usual" ] || export YARN_NPM_REGISTRY_SERVER="${chosen%/}"
fi
echo "    pip install --editable .[test]   (some minutes the first time)"
python -m pip install -qq --editable '.[test]' || {
    echo "error: pip could not install the package. See its words above; without a way to PyPI, set pip's index-url; without one to npm's registry, npm's registry (npm config set registry)." >&2
    exit 1
}
echo "$now" >$stamp

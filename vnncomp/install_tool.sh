#!/usr/bin/env bash
# install_tool.sh v1: the environment of the other two scripts, .venv beside the sources, with PyTorch.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected the version v1, received '${1:-}'" >&2; exit 1; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python3 -m venv .venv
.venv/bin/pip install --quiet '.[torch]'
.venv/bin/python -m keras_taps --version

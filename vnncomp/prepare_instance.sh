#!/usr/bin/env bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB: 0 if the instance can be run. Its seconds do not count,
# so what Python compiles and reads is compiled and read here once.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected the version v1, received '${1:-}'" >&2; exit 1; }
[ $# -eq 4 ] || { echo "expected v1 CATEGORY ONNX VNNLIB, received $# arguments" >&2; exit 1; }
for file in "$3" "$4"; do
    [ -f "$file" ] || { echo "there is no file '$file'" >&2; exit 1; }
done
python=${KERAS_TAPS_PYTHON:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python}
exec "$python" -m keras_taps verify "$3" "$4" --timeout 0.001 > /dev/null

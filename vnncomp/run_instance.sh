#!/usr/bin/env bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT: writes sat and the counterexample, unsat,
# unknown, timeout or error into RESULTS. What is stopped from outside leaves timeout there.
set -uo pipefail
[ "${1:-}" = v1 ] || { echo "expected the version v1, received '${1:-}'" >&2; exit 1; }
[ $# -eq 6 ] || { echo "expected 6 arguments, received $#" >&2; exit 1; }
onnx=$3 vnnlib=$4 results=$5 timeout=$6
python=${KERAS_TAPS_PYTHON:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python}
echo timeout > "$results"
if "$python" -m keras_taps verify "$onnx" "$vnnlib" --timeout "$timeout" > "$results.part"; then
    mv "$results.part" "$results"
else
    rm -f "$results.part"
    echo error > "$results"
fi

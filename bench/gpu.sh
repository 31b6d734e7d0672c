#!/bin/bash
# Measures one GPU in two calls of at most six minutes each, a JSON line for each figure (docs/gpu.md):
#   bench/gpu.sh 1    parity, steps, extraction, matching, scores, loader, launches, compiling, tests
#   bench/gpu.sh 2    four minutes of training, then determinism, memory, a fork, data-parallel workers
# --cpu tries all of it on the CPU at small sizes. PYTHON names the interpreter; OUT a folder for the lines.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# Found from any folder, so that paths of the command line are those of the caller.
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x "$root/.venv/bin/python" ] || python=$root/.venv/bin/python
exec "$python" -m bench.gpu "$@"

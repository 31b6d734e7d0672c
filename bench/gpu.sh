#!/bin/bash
# Measures one GPU in two calls of at most six minutes each, a JSON line for each figure (docs/gpu.md):
#   bench/gpu.sh 1    parity, steps, extraction, matching, scores, loader, launches, compiling, tests
#   bench/gpu.sh 2    four minutes of training, then determinism, memory, a fork, data-parallel workers
# --cpu tries all of it on the CPU at small sizes. PYTHON names the interpreter; OUT a folder for the lines.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x .venv/bin/python ] || python=.venv/bin/python
exec "$python" -m bench.gpu "$@"

#!/usr/bin/env bash
# Everything that needs a GPU, in one call: see run.py.
#   ./run.sh                 all checks and measurements, within BUDGET seconds (540)
#   ./run.sh profile         what ncu says of every kernel of a step
#   ./run.sh try MODEL LENGTH TOKENS ...    a step's time and stages alone
set -euo pipefail
cd "$(dirname "$0")"
exec python3 run.py "$@"

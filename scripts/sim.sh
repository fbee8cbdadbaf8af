#!/bin/sh
# Simulates many clusters under faults: sim.sh [SEEDS [FIRST]]; SEEDS and FIRST may come from the environment.
set -eu
. "$(dirname -- "$0")/lib.sh"

seeds=${1:-${SEEDS:-1000}}
first=${2:-${FIRST:-1}}
cd "$ROOT"
cargo build --quiet --locked --package trilith-sim --bin trilith-sim --profile sim
exec "$TARGET/sim/trilith-sim" --seeds "$seeds" --first "$first"

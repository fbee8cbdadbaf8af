#!/bin/sh
# Every fault of the floating address's holder 20 times (DRILLS=), with median and worst gap printed.
set -eu
. "$(dirname -- "$0")/lib.sh"

"$ROOT/scripts/setup.sh" test
cd "$ROOT"
export TRILITH_DRILLS="${DRILLS:-20}"
cargo build --locked --package trilith-cli --bin trilith --package foobar --bin server
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked --package trilith-e2e --test faults --profile chaos --no-capture
fi
exec cargo test --locked --package trilith-e2e --test faults -- --test-threads=1 --nocapture

#!/bin/sh
# Trilith, HAProxy and nginx side by side; writes bench/RESULTS.md. Further arguments go to the bench.
set -eu
. "$(dirname -- "$0")/lib.sh"

"$ROOT/scripts/setup.sh" bench
cd "$ROOT"
cargo build --release --locked --package trilith-cli --bin trilith --package trilith-bench --bin trilith-bench
[ -z "${ROUNDS:-}" ] || set -- --rounds "$ROUNDS" "$@"
exec "$TARGET/release/trilith-bench" --binary "$TARGET/release/trilith" --output "$ROOT/bench/RESULTS.md" "$@"

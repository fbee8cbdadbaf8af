#!/bin/sh
# Every fault of the floating address's holder and of the database's primary 20 times (DRILLS=), with the
# median and the worst pause printed, and transactions across 50 failovers (FAILOVERS=, SEED=).
# ONLY=faults, database, database_site or isolation: that part alone.
set -eu
. "$(dirname -- "$0")/lib.sh"

"$ROOT/scripts/setup.sh" test
cd "$ROOT"
export TRILITH_DRILLS="${DRILLS:-20}"
export TRILITH_FAILOVERS="${FAILOVERS:-50}"
export TRILITH_SEED="${SEED:-1}"
case ${ONLY:-} in
    '') parts='faults database database_site isolation' ;;
    faults | database | database_site | isolation) parts=$ONLY ;;
    *) die "ONLY=$ONLY: it is faults, database, database_site or isolation" ;;
esac
tests=
for part in $parts; do
    tests="$tests --test $part"
done
cargo build --locked --package trilith-cli --bin trilith --package foobar --bin server
if cargo nextest --version >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # several words
    exec cargo nextest run --locked --package trilith-e2e $tests --profile chaos --no-capture
fi
# shellcheck disable=SC2086
exec cargo test --locked --no-fail-fast --package trilith-e2e $tests -- --test-threads=1 --nocapture

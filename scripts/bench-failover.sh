#!/bin/sh
# Trilith and Patroni under the same faults; writes the section about failover of bench/RESULTS.md.
# ROUNDS= (20), AT_ONCE=1 (the systems beside each other: a third of the time), BIN= (a folder with trilith and trilith-bench-failover that are built already).
# Further arguments go to the bench. Takes root, and some hours.
set -eu
. "$(dirname -- "$0")/lib.sh"

is_root || die "the servers are network namespaces, and making those needs root. Type: sudo make bench-failover"
"$ROOT/scripts/setup.sh" bench-failover
cd "$ROOT"

# Patroni runs as the account of PostgreSQL, so with a Python that everybody may run.
PYTHON=/usr/bin/python3
[ -x "$PYTHON" ] || die "$PYTHON is missing: apt-get install python3 python3-venv"
REQUIREMENTS=$ROOT/bench/failover-requirements.txt
VENV=$ROOT/target/bench/patroni-$(cksum <"$REQUIREMENTS" | cut -d ' ' -f 1)
if [ ! -e "$VENV/complete" ]; then
    say "Installing Patroni from PyPI into $VENV."
    rm -rf "$VENV"
    mkdir -p "$ROOT/target/bench"
    "$PYTHON" -m venv "$VENV" || die "no virtual environment could be made: apt-get install python3-venv"
    "$VENV/bin/pip" install -qq --no-input --disable-pip-version-check --requirement "$REQUIREMENTS" || {
        rm -rf "$VENV"
        die "Patroni could not be installed from PyPI. That takes a network, or its wheels in a folder" \
            "named by PIP_FIND_LINKS together with PIP_NO_INDEX=1; then try again."
    }
    touch "$VENV/complete"
fi
setpriv --reuid=postgres --regid=postgres --init-groups "$VENV/bin/patroni" --version >/dev/null 2>&1 ||
    die "the account postgres cannot run $VENV/bin/patroni:" \
        "every folder above it must let others pass (chmod o+x), or move the checkout to where they do"

if [ -z "${BIN:-}" ]; then
    cargo build --release --locked --package trilith-cli --bin trilith \
        --package trilith-bench --bin trilith-bench-failover
    BIN=$TARGET/release
fi
[ -z "${ROUNDS:-}" ] || set -- --rounds "$ROUNDS" "$@"
RESULTS=$ROOT/bench/RESULTS.md
bench() {
    journal=$1
    shift
    "$BIN/trilith-bench-failover" --binary "$BIN/trilith" --venv "$VENV" --journal "$journal" "$@"
}
JOURNAL=$ROOT/target/bench/failover
if [ -z "${AT_ONCE:-}" ]; then
    bench "$JOURNAL.jsonl" --output "$RESULTS" "$@"
    exit
fi
pids='' journals=''
for system in trilith patroni-default patroni-tight patroni-tight-sync; do
    bench "$JOURNAL-$system.jsonl" --systems "$system" "$@" &
    pids="$pids $!"
    journals="$journals${journals:+,}$JOURNAL-$system.jsonl"
done
trap 'kill $pids 2>/dev/null' INT TERM
for pid in $pids; do
    wait "$pid" || die "one of the benches failed; the turns so far are in $JOURNAL-*.jsonl"
done
bench "$JOURNAL.jsonl" --report-of "$journals" --output "$RESULTS"

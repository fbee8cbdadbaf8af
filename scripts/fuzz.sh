#!/bin/sh
# Fuzzes one target: fuzz.sh [TARGET [SECONDS]]
# Of strangers: request_head response body split_invariance encode path join
# Of operators and other servers: config peer_message disk_record
set -eu
. "$(dirname -- "$0")/lib.sh"

target=${1:-request_head}
seconds=${2:-60}
cargo fuzz --version >/dev/null 2>&1 || die "cargo-fuzz is missing; type: cargo install cargo-fuzz --locked"
# The sanitizer's compiler flags are unstable ones; the pinned toolchain has them all the same.
export RUSTC_BOOTSTRAP=1
cd "$ROOT"
mkdir -p "fuzz/corpus/$target"
set -- "fuzz/corpus/$target"
[ ! -d "fuzz/seeds/$target" ] || set -- "$@" "fuzz/seeds/$target"
exec cargo fuzz run "$target" "$@" -- -max_total_time="$seconds" -max_len=16384

#!/bin/sh
# Fuzzes one target: fuzz.sh [TARGET [SECONDS]]
set -eu
. "$(dirname -- "$0")/lib.sh"

target=${1:-request_head}
seconds=${2:-60}
cargo fuzz --version >/dev/null 2>&1 || die "cargo-fuzz is missing; type: cargo install cargo-fuzz --locked"
rustc +nightly --version >/dev/null 2>&1 ||
    die "cargo-fuzz needs a nightly toolchain; type: rustup toolchain install nightly --profile minimal"
cd "$ROOT"
mkdir -p "fuzz/corpus/$target"
set -- "fuzz/corpus/$target"
[ ! -d "fuzz/seeds/$target" ] || set -- "$@" "fuzz/seeds/$target"
exec cargo +nightly fuzz run "$target" "$@" -- -max_total_time="$seconds" -max_len=16384

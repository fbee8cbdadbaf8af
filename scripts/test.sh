#!/bin/sh
# Everything a change must pass: format, clippy, tidy, unit tests, end-to-end tests.
set -eu
. "$(dirname -- "$0")/lib.sh"

"$ROOT/scripts/setup.sh" test
cd "$ROOT"
export CARGO_TERM_PROGRESS_WHEN=never

say "== format"
cargo fmt --all --check

say "== clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "== tidy"
cargo xtask tidy

# The end-to-end tests run the programs. Built together with the tests, dependencies are built once:
# alone, the programs would have them with fewer features.
say "== build"
cargo build --workspace --all-targets --locked

say "== tests"
profile=default
case ${CI:-} in '' | 0 | false) ;; *) profile=ci ;; esac
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked --profile "$profile"
fi
# Without nextest every test of a package shares one process: the end-to-end tests go one at a time.
cargo test --workspace --locked --exclude trilith-e2e
exec cargo test --locked --package trilith-e2e -- --test-threads=1

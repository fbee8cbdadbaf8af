#!/bin/sh
# Builds the example site's server into its code base: examples/foobar/bin/server
set -eu
. "$(dirname -- "$0")/lib.sh"

cd "$ROOT"
cargo build --release --locked --package foobar --bin server
bin=$ROOT/examples/foobar/bin
built=$TARGET/release/server
if ! cmp -s "$built" "$bin/server"; then
    # Whole or not at all: a running demo may be reading it.
    mkdir -p "$bin"
    cp "$built" "$bin/.server.$$"
    mv -f "$bin/.server.$$" "$bin/server"
fi

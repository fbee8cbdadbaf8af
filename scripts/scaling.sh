#!/bin/sh
# What the cluster store costs as the cluster grows; prints the table of docs/scaling.md.
# scaling.sh [FOLDER [SECONDS]]: where the stores' files go (on the disk that is to be measured), and how long
# each part of the measurement takes.
set -eu
. "$(dirname -- "$0")/lib.sh"

"$ROOT/scripts/setup.sh" build
cd "$ROOT"
cargo build --release --locked --package trilith-cluster --example growth
FOLDER=${1:-$TARGET/scaling}
mkdir -p "$FOLDER"
exec "$TARGET/release/examples/growth" "$FOLDER" "${2:-10}"

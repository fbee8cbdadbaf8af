#!/bin/sh
# Stops the demo and deletes its folder. DIR chooses which.
set -eu
. "$(dirname -- "$0")/lib.sh"
. "$ROOT/scripts/demo-dir.sh"

[ -d "$DEMO_DIR" ] || exit 0
# Never delete a folder that is something else.
[ -f "$DEMO_DIR/trilith.toml" ] || die "$DEMO_DIR is not a demo: it has no trilith.toml"
if [ -x "$TARGET/release/trilith" ]; then
    "$TARGET/release/trilith" demo stop --dir "$DEMO_DIR" || die "the demo in $DEMO_DIR does not stop; nothing was deleted"
fi
rm -rf -- "$DEMO_DIR"
say "deleted $DEMO_DIR"

#!/bin/sh
# Stops a demo that runs in the background. DIR chooses which.
set -eu
. "$(dirname -- "$0")/lib.sh"
demo_dir=${DIR:-$ROOT/trilith-demo}

[ -x "$TARGET/release/trilith" ] ||
    die "there is no $TARGET/release/trilith, so no demo was started with it"
exec "$TARGET/release/trilith" demo stop --dir "$demo_dir"

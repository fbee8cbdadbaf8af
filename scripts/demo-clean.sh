#!/bin/sh
# Stops the demo and deletes its folder. DIR chooses which.
set -eu
. "$(dirname -- "$0")/lib.sh"
demo_dir=${DIR:-$ROOT/trilith-demo}

[ -d "$demo_dir" ] || exit 0
# Never delete a folder that is something else.
[ -f "$demo_dir/trilith.toml" ] || die "$demo_dir is not a demo: it has no trilith.toml"
if [ -x "$TARGET/release/trilith" ]; then
    "$TARGET/release/trilith" demo stop --dir "$demo_dir" ||
        die "the demo in $demo_dir does not stop; nothing was deleted"
fi
# Started by root in a checkout that others cannot enter, the folder is a link to where they can.
place=$(readlink -f -- "$demo_dir")
rm -rf -- "$place"
[ ! -L "$demo_dir" ] || rm -f -- "$demo_dir"
say "deleted $place"

#!/bin/sh
# www.foobar.com on three servers, on this machine. Takes DETACH=1, LAB=1, DIR, HTTP, HTTPS, SERVERS
# from the environment.
set -eu
. "$(dirname -- "$0")/lib.sh"
demo_dir=${DIR:-$ROOT/trilith-demo}

"$ROOT/scripts/setup.sh" demo
(cd "$ROOT" && cargo build --release --locked --package trilith-cli --bin trilith)
"$ROOT/scripts/build-example.sh"

set -- demo --dir "$demo_dir" --code "$ROOT/examples/foobar"
[ -z "${HTTP:-}" ] || set -- "$@" --http "$HTTP"
[ -z "${HTTPS:-}" ] || set -- "$@" --https "$HTTPS"
[ -z "${SERVERS:-}" ] || set -- "$@" --servers "$SERVERS"
[ -z "${LAB:-}" ] || set -- "$@" --lab
[ -z "${DETACH:-}" ] || set -- "$@" --detach

# In place of this shell, so that Ctrl-C reaches it directly.
exec "$TARGET/release/trilith" "$@"

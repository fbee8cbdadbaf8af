# Sourced by the other scripts: where things are, and a few words to say.
# shellcheck shell=sh

# The root of the checkout. $0 is the script that sources this file.
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

# Where cargo builds to.
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in
    /*) ;;
    *) TARGET=$ROOT/$TARGET ;;
esac

# rustup and `cargo install` put programs here; a login shell would have it in PATH.
PATH=$PATH:${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}/bin
export PATH

say() {
    printf '%s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# Sourced: sets DEMO_DIR, where the demo keeps everything. DIR chooses it.
# shellcheck shell=sh disable=SC2034

# True when other users can enter the folder and all above it.
others_can_enter() {
    dir=$1
    while :; do
        case $(stat -c %A "$dir") in
            *[xt]) ;;
            *) return 1 ;;
        esac
        [ "$dir" = / ] && return 0
        dir=$(dirname -- "$dir")
    done
}

if [ -n "${DIR:-}" ]; then
    case $DIR in
        /*) DEMO_DIR=$DIR ;;
        *) DEMO_DIR=$PWD/$DIR ;;
    esac
elif is_root && ! others_can_enter "$ROOT"; then
    # Started by root, PostgreSQL and the apps run as unprivileged users, who cannot enter a checkout
    # in root's home.
    DEMO_DIR=/var/lib/trilith-demo
else
    DEMO_DIR=$ROOT/trilith-demo
fi

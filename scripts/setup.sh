#!/bin/sh
# Installs what is missing: setup.sh build|demo|test|bench|bench-failover
# Silent when everything is there. What it cannot install, it tells you how to.
set -eu
. "$(dirname -- "$0")/lib.sh"

PURPOSE=${1:-build}
POSTGRES_MIN=15

# The folder of a PostgreSQL that is new enough, if there is one.
postgres_bin() {
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
        if [ ! -x "$dir/initdb" ] || [ ! -x "$dir/pg_basebackup" ] || [ ! -x "$dir/postgres" ]; then
            continue
        fi
        version=$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        [ "${version:-0}" -ge "$POSTGRES_MIN" ] && { echo "$dir"; return; }
    done
    # Other systems have the programs in PATH.
    if have initdb && have pg_basebackup && have postgres; then
        version=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        [ "${version:-0}" -ge "$POSTGRES_MIN" ] && dirname -- "$(command -v initdb)"
    fi
    return 0
}

server_program() {
    have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || [ -x "/usr/local/sbin/$1" ]
}

# Packages of Debian and Ubuntu that are missing for this purpose.
missing_packages() {
    have cc || echo build-essential
    case $PURPOSE in demo | test) [ -n "$(postgres_bin)" ] || echo postgresql ;; esac
    # Labs are made with it.
    if [ "$PURPOSE" = test ] || { [ "$PURPOSE" = demo ] && [ -n "${LAB:-}" ]; }; then
        server_program ip || echo iproute2
    fi
    if [ "$PURPOSE" = test ]; then
        # Both modules are needed to make a virtual environment with pip in it.
        python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
        # The cluster store's other backend is tested against the real one.
        server_program etcd || echo etcd-server
    fi
    if [ "$PURPOSE" = bench ]; then
        server_program haproxy || echo haproxy
        server_program nginx || echo nginx
    fi
    if [ "$PURPOSE" = bench-failover ]; then
        [ -n "$(postgres_bin)" ] || echo postgresql
        server_program ip || echo iproute2
        server_program haproxy || echo haproxy
        server_program etcd || echo etcd-server
        have setpriv || echo util-linux
        /usr/bin/python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
    fi
}

install_packages() {
    command="$ROOT/scripts/install-packages.sh $*"
    if ! have apt-get; then
        die "missing: $*. This system has no apt-get: install what these Debian packages hold" \
            "(PostgreSQL $POSTGRES_MIN or newer), then try again."
    fi
    say "Missing: $*. Installing from the distribution's packages."
    if is_root; then
        "$ROOT/scripts/install-packages.sh" "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$ROOT/scripts/install-packages.sh" "$@"
    elif have sudo; then
        die "that needs root. Type this, then try again:
    sudo $command"
    else
        die "that needs root. Type this, then try again:
    su -c '$command'"
    fi
}

have cargo || die "Rust is missing. Install it as https://rustup.rs says, then try again."

packages=$(missing_packages)
if [ -n "$packages" ]; then
    # One word per package.
    # shellcheck disable=SC2086
    install_packages $packages
    still=$(missing_packages | tr '\n' ' ')
    if [ -n "$still" ]; then
        die "still missing after the installation: $still" \
            "(PostgreSQL must be $POSTGRES_MIN or newer; https://www.postgresql.org/download/linux/" \
            "has packages for distributions whose own is older)"
    fi
fi

if [ "$PURPOSE" = test ]; then
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        have rustup || die "rustfmt or clippy is missing. Install both beside cargo, then try again."
        say "Missing: rustfmt, clippy. Installing with rustup."
        rustup component add rustfmt clippy
    fi
    if ! cargo nextest --version >/dev/null 2>&1; then
        say "Missing: cargo-nextest. Building it; this takes a few minutes, once."
        # Not into this project's target folder, and not with its settings.
        (cd / && env -u CARGO_TARGET_DIR cargo install cargo-nextest --locked) ||
            say "cargo-nextest could not be installed; the tests will run with cargo test."
    fi
fi

#!/bin/sh
# Installs Debian or Ubuntu packages as root, and leaves no service running that was not there before:
# install-packages.sh PACKAGE...
set -eu

[ $# -gt 0 ] || { echo "usage: $0 PACKAGE..." >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "error: $0 must run as root" >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
APT_OPTIONS='-q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120'
POLICY=/usr/sbin/policy-rc.d
CLUSTERS=/etc/postgresql-common/createcluster.conf
made_policy=
saved_clusters=

restore() {
    [ -z "$made_policy" ] || rm -f "$POLICY"
    [ -z "$saved_clusters" ] || mv -f "$saved_clusters" "$CLUSTERS"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

apt_install() {
    # shellcheck disable=SC2086
    apt-get install $APT_OPTIONS --no-install-recommends "$@" >&2
}

echo "apt-get update" >&2
apt-get update -q >&2 || echo "apt-get update failed; trying with the package lists that are here" >&2

# Debian starts what it installs. A policy of 101 forbids that, for as long as we install.
# (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt)
if [ ! -e "$POLICY" ]; then
    made_policy=1
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
fi

for package in "$@"; do
    echo "apt-get install $package" >&2
    case $package in
        postgresql*)
            # The package makes a database cluster of its own, on port 5432. Trilith makes its own
            # clusters: say no, and leave the setting as it was afterwards.
            apt_install postgresql-common
            saved_clusters=$(mktemp "$CLUSTERS.XXXXXX")
            cp -p "$CLUSTERS" "$saved_clusters"
            echo 'create_main_cluster = false' >>"$CLUSTERS"
            apt_install "$package"
            mv -f "$saved_clusters" "$CLUSTERS"
            saved_clusters=
            ;;
        haproxy | nginx | etcd-server)
            apt_install "$package"
            # Wanted as a program, not as a service that starts with the machine.
            if [ -d /run/systemd/system ]; then
                systemctl disable --quiet "${package%-server}" || true
            fi
            ;;
        *) apt_install "$package" ;;
    esac
done

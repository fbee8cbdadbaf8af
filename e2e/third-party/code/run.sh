#!/bin/sh
# Runs a program of the virtual environment whose path is in the file `venv`, with Kinto's settings
# taken from the environment: Kinto reads any setting `a.b_c` from the variable `A_B_C`.
set -eu
venv=$(cat venv)
export KINTO_STORAGE_URL="$DATABASE_URL" KINTO_PERMISSION_URL="$DATABASE_URL"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
program=$1
shift
if [ "$program" = pserve ]; then
    set -- "$@" "http_host=$HOST" "http_port=$PORT"
fi
exec "$venv/bin/$program" "$@"

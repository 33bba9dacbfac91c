#!/bin/bash
# The first start makes the user MONGO_INITDB_ROOT_USERNAME on a server that nobody else can reach and that is no replica
# set; then the server with the given arguments.
set -euo pipefail
if [ ! -e /data/db/WiredTiger ]; then
    mongod --dbpath /data/db --bind_ip 127.0.0.1 --nounixsocket --quiet &
    first=$!
    python3 /usr/local/bin/mongo_user.py
    kill "$first"
    wait "$first"
fi
exec "$@" --bind_ip_all

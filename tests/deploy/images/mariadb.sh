#!/bin/bash
# The first start makes the data directory with MARIADB_ROOT_PASSWORD_FILE; then the server with the given arguments.
set -euo pipefail
case "${1:-}" in -*) set -- mariadbd "$@" ;; esac
if [ ! -d /var/lib/mysql/mysql ]; then
    mariadb-install-db --auth-root-authentication-method=normal --skip-test-db >/dev/null
    password=$(<"$MARIADB_ROOT_PASSWORD_FILE")
    mariadbd --bootstrap --datadir=/var/lib/mysql <<SQL
FLUSH PRIVILEGES;
SET PASSWORD FOR root@localhost = PASSWORD('$password');
CREATE USER root@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
SQL
fi
# Debian's own configuration listens on the loopback address only.
exec "$@" --bind-address=0.0.0.0

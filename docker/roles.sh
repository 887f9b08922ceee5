#!/bin/sh
# Runs once, at the first start of the postgres service: the owner migrates, the application owns nothing.
set -eu
for role in owner app sealer; do
  psql -v ON_ERROR_STOP=1 --username postgres --dbname postgres \
    -v role="cerbero_$role" -v password="$(cat "/run/secrets/cerbero_${role}_password")" <<'SQL'
CREATE ROLE :"role" LOGIN NOINHERIT PASSWORD :'password';
SQL
done
psql -v ON_ERROR_STOP=1 --username postgres --dbname postgres -c 'CREATE DATABASE cerbero OWNER cerbero_owner'

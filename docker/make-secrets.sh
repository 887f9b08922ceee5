#!/bin/sh
# Make the random secrets of docker-compose.yml in ./secrets, once; what is there already stays.
# The folder is closed (0700); the files are readable inside the containers, where each service sees its own alone.
set -eu
cd "$(dirname "$0")/.."
mkdir -p secrets
chmod 700 secrets
cd secrets

key() { head -c 32 /dev/urandom | base64 | tr '+/' '-_'; }
password() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
put() {
  if [ -e "$1" ]; then echo "$1 is there already"; return; fi
  printf '%s' "$2" > "$1"
  chmod 444 "$1"
}

put secret_key "$(key)$(key)"
put encryption_key "$(key)"
put quote_frame_key "$(key)"
put seal_key "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
put postgres_password "$(password)"
for role in owner app sealer; do
  put "cerbero_${role}_password" "$(password)"
  put "${role}_database_url" "postgresql://cerbero_${role}:$(cat "cerbero_${role}_password")@postgres:5432/cerbero"
done
put redis_password "$(password)"
put redis_url "unix://cerbero:$(cat redis_password)@/run/redis/redis.sock?db=0"
put redis_acl "user default off
user cerbero on >$(cat redis_password) ~* &* +@all -@admin +client
"
echo "Secrets are in $(pwd). Keep a copy of encryption_key and seal_key where this machine cannot lose it."

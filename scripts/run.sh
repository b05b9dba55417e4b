#!/usr/bin/env bash
# `make run`: builds, serves, and on the first start loads the sample data.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$(date +%s)
cargo build --bin uss
echo "built in $(($(date +%s) - started)) s"

data=${USS_DATA_DIR:-./data}
first_start=no
[ -e "$data" ] || first_start=yes

target/debug/uss serve "$@" &
uss=$!
trap 'kill -TERM $uss 2>/dev/null; wait $uss' INT TERM

api=http://127.0.0.1:${CONFIGURATION_API_PORT:-3000}
until curl --silent --fail --output /dev/null "$api/health-check"; do
    kill -0 $uss 2>/dev/null || { wait $uss; exit $?; }
    sleep 0.1
done

if [ $first_start = yes ]; then
    curl --silent --show-error --fail --output /dev/null --request POST "$api/api/v1/db-actions/seed/data"
    curl --silent --show-error --fail --output /dev/null --request POST "$api/api/v1/db-actions/seed/analytics"
    echo "loaded the sample data: 100 users, 1,000 events, three segments"
fi

cat <<TRY

Try:
  curl $api/api/v1/users/segment/area_no_buyers
  curl -H 'Content-Type: application/json' http://127.0.0.1:${INGESTION_API_PORT:-4000}/api/v1/events \\
    -d '{"id":"c1d1caef-b216-4fca-bd2d-d776bd6204d6","id_type":"cookie","region":"California","payload":{"activity_type":"page_viewed"}}'
  curl $api/api/v1/users/1/segments/area_no_buyers/explain
TRY
wait $uss

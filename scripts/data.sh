#!/usr/bin/env bash
# Fetches the public data sets that tests and the tour import into .tools/data: seventy thousand purchases of an online shop
# (CDNOW, 1997-1998) and half a year of clicks in another. Both come inside Python packages, as those packages' own examples.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.tools/data

# fetch PACKAGE PATH CHECKSUM: takes one file out of a pinned package.
fetch() {
    local package=$1 path=$2 checksum=$3
    local target=$folder/${path##*/}
    echo "$checksum  $target" | sha256sum --check --status 2>/dev/null && return
    local temp
    temp=$(mktemp -d)
    trap 'rm -rf "$temp"' RETURN
    echo "fetching ${path##*/} ($package)"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --no-compile --only-binary :all: --target "$temp" "$package" || {
        echo "scripts/data.sh: $package could not be fetched; Python 3 with pip and a package registry are needed" >&2
        exit 1
    }
    echo "$checksum  $temp/$path" | sha256sum --check --quiet
    mkdir -p "$folder"
    install -m 644 "$temp/$path" "$target"
}

fetch lifetimes==0.11.3 lifetimes/datasets/CDNOW_master.txt eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef
fetch retentioneering==5.2.4 retentioneering/datasets/ecom.csv.gz 110716838facbec8143c6c9af74500eb0252197da212fd75aa4c47bf3b692090

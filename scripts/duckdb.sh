#!/usr/bin/env bash
# Fetches the prebuilt libduckdb into .tools/duckdb: building it from source takes half an hour. Its npm package is DuckDB's own
# way of shipping the library for Node; the version belongs to the `duckdb` crate in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.5.6-r.1
checksum=3f4962cdd266eab2b479a5b5a4a6d063d279b2954ae814ed00385d553b747633
folder=.tools/duckdb

[ "$(cat "$folder/version" 2>/dev/null)" = "$version" ] && exit 0

case "$(uname -s)-$(uname -m)" in
Linux-x86_64) package=@duckdb/node-bindings-linux-x64 ;;
*)
    echo "scripts/duckdb.sh: no prebuilt library is known for $(uname -s) on $(uname -m); put libduckdb $version into $folder" >&2
    exit 1
    ;;
esac
command -v npm >/dev/null || {
    echo "scripts/duckdb.sh: npm is needed to fetch $package; install Node.js" >&2
    exit 1
}

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
echo "fetching libduckdb ($package $version)"
(cd "$temp" && npm pack --silent "$package@$version" >/dev/null)
tar -xzf "$temp"/*.tgz -C "$temp" package/libduckdb.so
echo "$checksum  $temp/package/libduckdb.so" | sha256sum --check --quiet
mkdir -p "$folder"
mv "$temp/package/libduckdb.so" "$folder/"
echo "$version" >"$folder/version"

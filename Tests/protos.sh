#!/usr/bin/env bash
# The generated protobuf code is what the .proto files say today.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
Protocols/generate.sh "$fresh"
diff -r "$fresh" Sources/Shared/Wire/Generated
echo "summary: generated code is fresh"

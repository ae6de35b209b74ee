#!/usr/bin/env bash
# Regenerates Sources/Shared/Wire/Generated from the .proto files. `make protos` calls it; a test compares.
#   Protocols/generate.sh [output folder]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-Sources/Shared/Wire/Generated}
plugin=${PROTOC_GEN_SWIFT:-.build/debug/protoc-gen-swift}
[ -x "$plugin" ] || swift build --product protoc-gen-swift
mkdir -p "$out"
protoc --plugin=protoc-gen-swift="$plugin" --swift_opt=Visibility=Public --swift_out="$out" \
  -I Protocols/martlet/v1 Protocols/martlet/v1/client.proto Protocols/martlet/v1/internal.proto
python3 Protocols/payloads.py Protocols/martlet/v1/internal.proto > "$out/Payload.swift"

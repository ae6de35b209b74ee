#!/usr/bin/env bash
# Needs a small file system of its own: root mounts one; anybody else gets a name space in which that is allowed.
set -euo pipefail
here="$(dirname "$0")"
if [ "$(id -u)" = 0 ]; then exec python3 "$here/test_full.py"; fi
exec unshare --user --map-root-user --mount python3 "$here/test_full.py"

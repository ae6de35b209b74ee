#!/usr/bin/env bash
# Installs the Debian packages that a step needs, when they are missing.
#   Deploy/install.sh build | test
set -euo pipefail
case "${1:-}" in
build) packages="libsqlite3-dev" ;;
test) packages="python3 nodejs chromium chromium-driver python3-selenium protobuf-compiler strace" ;;
*) echo "usage: Deploy/install.sh build|test" >&2; exit 2 ;;
esac
command -v swift >/dev/null || { echo "Swift 6.3 is not installed: see https://www.swift.org/install/linux/" >&2; exit 1; }
missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
as_root=""
if [ "$(id -u)" != 0 ]; then
  if sudo -n true 2>/dev/null; then as_root="sudo"; else
    echo "Martlet needs a few Debian packages. Type this once, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y$missing" >&2
    exit 1
  fi
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "The packages could not be installed; type: apt-get update && apt-get install -y$missing" >&2
  exit 1
fi
rm -f "$log"

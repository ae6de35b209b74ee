#!/usr/bin/env bash
# Installs the Debian packages that a step needs, when they are missing.
#   Deploy/install.sh build | test | bench | peers
# peers: what `make bench-peers` compares with. Of these and of the tests' servers only the programs are wanted, so their
# services are neither started nor left to start with the machine.
set -euo pipefail
# The -core packages are MariaDB's programs without its service and data folder.
case "${1:-}" in
build) packages="libsqlite3-dev libhiredis-dev librdkafka-dev libmariadb-dev" ;;
test) packages="python3 python3-venv nodejs chromium chromium-driver python3-selenium protobuf-compiler strace openssl
  redis-server redis-sentinel mariadb-server-core mariadb-client-core" ;;
# perf counts what the budgets are about; it fits any kernel well enough for that.
bench) packages="python3 python3-venv linux-perf redis-server mariadb-server-core mariadb-client-core" ;;
peers) packages="python3 mosquitto ejabberd erlang-p1-mysql mariadb-server-core mariadb-client-core" ;;
*) echo "usage: Deploy/install.sh build|test|bench|peers" >&2; exit 2 ;;
esac
[ "$1" = peers ] || command -v swift >/dev/null || { echo "Swift 6.3 is not installed: see https://www.swift.org/install/linux/" >&2; exit 1; }
missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
as_root=""
if [ "$(id -u)" != 0 ]; then
  if sudo -n true 2>/dev/null; then as_root="sudo"; else
    echo "Martlet needs a few Debian packages. Type this once, then try again:" >&2
    if [ "$1" = peers ]; then echo "  sudo Deploy/install.sh peers" >&2; else
      echo "  sudo apt-get update && sudo apt-get install -y$missing" >&2
    fi
    exit 1
  fi
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
own_policy=""
finish() {
  rm -f "$log"
  if [ -n "$own_policy" ]; then $as_root rm -f "$policy"; fi
}
trap finish EXIT
# Debian's own way to say that an installation starts nothing; another's answer is left as it is.
case "$1" in test | bench | peers) programs_only=yes ;; *) programs_only="" ;; esac
if [ -n "$programs_only" ] && [ ! -e "$policy" ]; then
  own_policy=yes
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
fi
if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "The packages could not be installed; type: apt-get update && apt-get install -y$missing" >&2
  exit 1
fi
if [ -n "$programs_only" ]; then
  # Those that this installation brought, and whatever the policy above did not reach (a socket unit, for one). What was
  # installed before is its owner's business.
  for unit in ejabberd mosquitto redis-server redis-sentinel; do
    case "$missing " in *" $unit "*)
      if [ -d /run/systemd/system ]; then $as_root systemctl disable --now --quiet "$unit" 2>/dev/null || true; fi
      ;;
    esac
  done
fi

#!/usr/bin/env bash
# The MySQL adapter against real MariaDB servers, which the tests start by themselves: contracts, faults, the whole suite.
set -euo pipefail
cd "$(dirname "$0")/../../.."
for program in mariadbd mariadb-install-db mariadb; do
  PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null ||
    { echo "error: $program is missing: apt-get install mariadb-server mariadb-client"; exit 1; }
done
swift build --build-tests
log=$(mktemp)
trap 'rm -f "$log"' EXIT
swift test --skip-build --no-parallel --filter MySQLServerTests 2>&1 | tee "$log"
# A filter that finds nothing passes as well.
grep -qE 'Test run with [1-9][0-9]+ tests?.* passed' "$log" || { echo "error: the tests were not run"; exit 1; }
python3 Tests/EndToEnd/mysql/test_mysql.py

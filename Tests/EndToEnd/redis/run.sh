#!/usr/bin/env bash
# The Redis adapter against real servers, which the tests start by themselves: contracts, cluster, Sentinel, TLS, faults.
set -euo pipefail
cd "$(dirname "$0")/../../.."
for program in redis-server redis-sentinel redis-cli; do
  command -v "$program" >/dev/null || { echo "error: $program is missing: apt-get install redis-server redis-sentinel"; exit 1; }
done
swift build --build-tests
log=$(mktemp)
trap 'rm -f "$log"' EXIT
swift test --skip-build --no-parallel --filter RedisServerTests 2>&1 | tee "$log"
# A filter that finds nothing passes as well.
grep -qE 'Test run with [1-9][0-9]+ tests?.* passed' "$log" || { echo "error: the tests were not run"; exit 1; }
python3 Tests/EndToEnd/redis/test_redis.py

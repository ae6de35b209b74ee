#!/usr/bin/env bash
# Runs test stages, one line each with its seconds, and ends with "N passed, N failed". A stage that ends
# with 77 cannot run on this machine: it counts as neither, and a line says so. Without arguments: all.
#   Tests/run.sh [stage ...]
# A stage's output goes to .build/test-logs/<stage>.log and is shown when it fails.
set -uo pipefail
cd "$(dirname "$0")/.."
logs=.build/test-logs
mkdir -p "$logs"
passed=0
failed=0
skipped=0

stage() { # name, command ...
  local name=$1 began=$SECONDS
  shift
  local code=0
  "$@" >"$logs/$name.log" 2>&1 || code=$?
  if [ "$code" = 0 ]; then
    passed=$((passed + 1))
    printf '%-14s ok      %4d s  %s\n' "$name" $((SECONDS - began)) \
      "$(grep -oE 'Test run with [0-9]+ tests?.*passed|^summary: .*' "$logs/$name.log" | tail -n 1)"
  elif [ "$code" = 77 ]; then
    skipped=$((skipped + 1))
    printf '%-14s SKIPPED %4d s  %s\n' "$name" $((SECONDS - began)) "$(grep -oE '^summary: .*' "$logs/$name.log" | tail -n 1)"
  else
    failed=$((failed + 1))
    printf '%-14s FAILED  %4d s  (%s)\n' "$name" $((SECONDS - began)) "$logs/$name.log"
    grep -E '(✘|error:|Traceback|AssertionError|FAILED|wrong:)' "$logs/$name.log" | head -n 40
    tail -n 25 "$logs/$name.log"
  fi
}

do_format() { stage format swift format lint -r --strict Package.swift Sources Tests; }
do_build() { stage build swift build --build-tests; }
# One after the other: tests that wait for sockets must not starve behind those that compute.
# Those that need real servers are stages of their own.
do_unit() { do_build; stage unit swift test --skip-build --no-parallel --skip 'RedisServerTests|MySQLServerTests'; }
do_e2e() {
  for script in Tests/EndToEnd/*/run.sh; do
    stage "e2e-$(basename "$(dirname "$script")")" "$script"
  done
}
do_protos() { stage protos Tests/protos.sh; }

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(format unit tools web protos e2e)
# The programs around the benches and the sanitizers, without a server.
do_tools() {
  stage tools python3 -m unittest discover -s Tests/Benchmarks
  stage sanitizers python3 -m unittest discover -s Tests/Sanitizers
}
do_web() { stage web node --test Tests/Web/; }
for name in "${stages[@]}"; do "do_$name"; done
[ "$skipped" = 0 ] || echo "$skipped skipped: what they prove is not proved by this run"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

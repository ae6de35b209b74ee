#!/usr/bin/env bash
# Every unit test under ThreadSanitizer and under AddressSanitizer, with shorter histories: both are many times slower.
#   Tests/Sanitizers/run.sh [thread|address ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
export MARTLET_FUZZ_INPUTS=2000 MARTLET_SEEDS=24
# What is measured there is the sanitizer's memory, and sources look the same under any of them.
skip='IdleMemoryTests|ArrowTests|TidyTests'
kinds=("$@")
[ ${#kinds[@]} -gt 0 ] || kinds=(thread address)
for kind in "${kinds[@]}"; do
  scratch=.build/$kind
  swift build --build-tests --sanitize "$kind" --scratch-path "$scratch"
  # The simulator has one thread.
  [ "$kind" = thread ] && skipped="$skip|SuiteStormTests|SuiteMistakeTests|PowerCutTests" || skipped=$skip
  tests=("$scratch/debug/martletPackageTests.xctest" --testing-library swift-testing --no-parallel --skip "$skipped")
  if [ "$kind" = thread ]; then
    # It ends with 66 when there were reports; which of them count is said by reports.py, and a test that fails by its line.
    { "${tests[@]}" 2>&1 || true; } | tee "$scratch/tests.log" | python3 Tests/Sanitizers/reports.py | tail -n 200
    grep -q 'Test run with .* passed' "$scratch/tests.log"
  else
    # Swift keeps what is there for good (types, lanes of a process); leaks are not what this looks for.
    ASAN_OPTIONS=detect_leaks=0 "${tests[@]}" >"$scratch/tests.log" 2>&1 || { tail -n 100 "$scratch/tests.log"; exit 1; }
    grep 'Test run with' "$scratch/tests.log"
  fi
done

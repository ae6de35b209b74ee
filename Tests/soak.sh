#!/usr/bin/env bash
# The full lengths that `make test` shortens. Takes an hour or more; the last line says how it went.
set -euo pipefail
cd "$(dirname "$0")/.."
swift build --build-tests
MARTLET_SEEDS=600 swift test --skip-build --filter 'ContractTests|EmbeddedPowerCutTests'
MARTLET_SEEDS=2000 swift test --skip-build --filter promisesHoldInEveryStorm
# The same seed in another process, where dictionaries have another order: the same event log.
for run in 1 2; do
  MARTLET_SEED=47 MARTLET_LOG=.build/storm-$run.log swift test --skip-build --filter promisesHoldInEveryStorm
done
cmp .build/storm-1.log .build/storm-2.log
MARTLET_KAFKA_SEEDS=1000 swift test --skip-build --filter KafkaHistoryTests
MARTLET_STOPPED_SECONDS=30 swift test --skip-build --filter StoppedPeerTests
MARTLET_FUZZ_INPUTS=1000000 swift test --skip-build --filter 'WireTests|EdgeTests'
Tests/Sanitizers/run.sh
swift build --product martlet
# Whoever soaks has a machine that may trace.
MARTLET_MUST_TRACE=1 Tests/EndToEnd/durability/run.sh
MARTLET_CHECK_USERS=200 MARTLET_CHECK_SECONDS=30 Tests/EndToEnd/suite/run.sh
Tests/EndToEnd/processes/run.sh
MARTLET_OUTAGE=60 Tests/EndToEnd/redis/run.sh
MARTLET_KILL=login,msgwriter MARTLET_KILLS=20 MARTLET_CHECK_SECONDS=120 Tests/EndToEnd/processes/run.sh
# Each service's own executable can be built, too.
MARTLET_EXECUTABLES=1 swift build
make release
MARTLET_DIST=.build/dist python3 Tests/EndToEnd/release/test_release.py
echo "soak: done"

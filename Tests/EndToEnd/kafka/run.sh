#!/usr/bin/env bash
# The log in Kafka on a real server of its protocol (noida-db), which is installed under .build: the port's contract with a
# clean restart in the middle, and the whole suite over it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
MARTLET_KAFKA_SERVER=$(Tests/EndToEnd/kafka-server.sh)
export MARTLET_KAFKA_SERVER
timeout 300 swift test --skip-build --no-parallel --filter KafkaServerTests
exec python3 Tests/EndToEnd/kafka/test_kafka.py

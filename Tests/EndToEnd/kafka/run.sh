#!/usr/bin/env bash
# The log in Kafka on a real server of its protocol (noida-db), which is installed under .build: the port's contract with a
# clean restart in the middle, and the whole suite over it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
venv=$PWD/.build/kafka-server
version=0.2.3
if [ "$("$venv/bin/pip" show noida-db 2>/dev/null | sed -n 's/^Version: //p')" != "$version" ]; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet "noida-db==$version"
fi
# The program itself: the script in bin/ starts it and passes no signals on.
MARTLET_KAFKA_SERVER=$("$venv/bin/python" -c 'import noida_db, pathlib; print(pathlib.Path(noida_db.__file__).with_name("noida-db"))')
export MARTLET_KAFKA_SERVER
timeout 300 swift test --skip-build --no-parallel --filter KafkaServerTests
exec python3 Tests/EndToEnd/kafka/test_kafka.py

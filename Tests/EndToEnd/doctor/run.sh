#!/usr/bin/env bash
# `martlet doctor` against real servers that are as they should be, and against each of them set up wrongly.
set -euo pipefail
cd "$(dirname "$0")/../../.."
for program in redis-server mariadbd mariadb-install-db mariadb openssl; do
  PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || { echo "error: $program is missing: Deploy/install.sh test"; exit 1; }
done
MARTLET_KAFKA_SERVER=$(Tests/EndToEnd/kafka/install.sh)
export MARTLET_KAFKA_SERVER
exec python3 Tests/EndToEnd/doctor/test_doctor.py

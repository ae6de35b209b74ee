#!/usr/bin/env bash
# Every service a process of its own, started from one YAML file over real servers, without martlet-store.
set -euo pipefail
cd "$(dirname "$0")/../../.."
for program in redis-server mariadbd mariadb-install-db mariadb; do
  PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || { echo "error: $program is missing: Deploy/install.sh test"; exit 1; }
done
MARTLET_KAFKA_SERVER=$(Tests/EndToEnd/kafka/install.sh)
export MARTLET_KAFKA_SERVER
exec python3 Tests/EndToEnd/cluster/test_cluster.py

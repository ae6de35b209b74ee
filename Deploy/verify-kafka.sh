#!/usr/bin/env bash
# Shows on a real Kafka of three brokers or more what no test of this repository can: that nothing accepted is lost while
# brokers are killed with -9, one after the other. Runs a whole suite over topics of its own, checks it while each broker is
# killed and started again, and once more afterwards. Ends with 0 and one line when nothing was lost, doubled or reordered.
#
#   Deploy/verify-kafka.sh --brokers a:9092,b:9092,c:9092 --kill 'ssh $BROKER systemctl kill -s KILL kafka' \
#     --start 'ssh $BROKER systemctl start kafka' --names 'a b c' [--options 'security.protocol=ssl&ssl.ca.location=...'] \
#     [--topics PREFIX] [--create kafka-topics.sh] [--down SECONDS] [--users N] [--martlet PROGRAM]
#
# --kill and --start are run by bash with BROKER set to each name of --names in turn. --create makes the topics with Kafka's own
# tool (MARTLET_KAFKA_CONFIG names a file for its --command-config); without it they have to be there, as Docs/operating.md says.
# The topics are left behind: PREFIXmsg, PREFIXpush and their identities.
set -euo pipefail
brokers='' kill='' start='' names='' options='' topics="martlet-verify-$(date +%s)-" create='' down=15 users=50
martlet=$(cd "$(dirname "$0")/.." && pwd)/.build/dist/martlet
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { echo "$1 needs a value; the first lines of $0 say how it is used" >&2; exit 2; }
  case $1 in
    --brokers) brokers=$2 ;; --kill) kill=$2 ;; --start) start=$2 ;; --names) names=$2 ;; --options) options=$2 ;;
    --topics) topics=$2 ;; --create) create=$2 ;; --down) down=$2 ;; --users) users=$2 ;; --martlet) martlet=$2 ;;
    *) echo "$1 is no option; the first lines of $0 say how it is used" >&2; exit 2 ;;
  esac
  shift 2
done
for needed in brokers kill start names; do
  [ -n "${!needed}" ] || { echo "--$needed is needed; the first lines of $0 say how it is used" >&2; exit 2; }
done
[ -x "$martlet" ] || { echo "there is no program $martlet; run make release, or name one with --martlet" >&2; exit 2; }

if [ -n "$create" ]; then
  common=(--bootstrap-server "$brokers" --create --if-not-exists --replication-factor 3)
  [ -z "${MARTLET_KAFKA_CONFIG:-}" ] || common+=(--command-config "$MARTLET_KAFKA_CONFIG")
  for log in msg push; do
    "$create" "${common[@]}" --topic "$topics$log" --partitions 8 --config min.insync.replicas=2 \
      --config unclean.leader.election.enable=false --config cleanup.policy=delete --config max.message.bytes=1052672 \
      --config retention.ms=604800000
    "$create" "${common[@]}" --topic "$topics$log.identity" --partitions 1 --config min.insync.replicas=2 \
      --config unclean.leader.election.enable=false --config cleanup.policy=compact
  done
fi

folder=$(mktemp -d)
suite=''
finish() {
  if [ -n "$suite" ]; then
    command kill "$suite" 2>/dev/null || true
    wait "$suite" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap finish EXIT

address="kafka://$brokers?topics=$topics${options:+&$options}"
"$martlet" up --processes --data "$folder/data" --ready-file "$folder/ready.json" --tcp-port 0 --ws-port 0 --http-port 0 \
  --rpc-port 0 --log "$address" >"$folder/suite.log" 2>&1 &
suite=$!
for _ in $(seq 120); do
  [ -s "$folder/ready.json" ] && break
  command kill -0 "$suite" 2>/dev/null || break
  sleep 0.5
done
[ -s "$folder/ready.json" ] || { echo "the suite did not start:" >&2; tail -n 5 "$folder/suite.log" >&2; exit 1; }
port=$(sed -n 's/.*"tcp_port" *: *\([0-9]*\).*/\1/p' "$folder/ready.json")

check() { # seconds, seed
  "$martlet" check --json --server "127.0.0.1:$port" --access "$folder/data/demo.json" --users "$users" --seconds "$1" \
    --seed "$2" >"$folder/check.json" 2>"$folder/check.log" && return 0
  echo "the check with seed $2 failed:" >&2
  tail -n 20 "$folder/check.log" "$folder/check.json" >&2
  return 1
}
acked() { sed -n '$s/.*"acked" *: *\([0-9]*\).*/\1/p' "$folder/check.json"; }

check 5 1
count=$(set -- $names && echo $#)
check $((count * 2 * down + down)) 2 &
running=$!
for name in $names; do
  sleep "$down"
  BROKER=$name bash -c "$kill"
  echo "killed $name"
  sleep "$down"
  BROKER=$name bash -c "$start"
done
wait "$running"
total=$(acked)
check 5 3
echo "acked $total while $count brokers were killed and started again: nothing lost, doubled or reordered"

#!/usr/bin/env bash
# `martlet bench chat` against Martlet, mosquitto and ejabberd (without and with its archive in MariaDB), alternating in
# one run on this machine, and a table of the medians. Docs/benchmarks.md says what is the same and what is not.
#   Tests/Benchmarks/peers.sh [martlet] [mosquitto] [ejabberd] [ejabberd+archive]        without arguments: all
# PAIRS, BYTES, DEPTH, SECONDS_EACH and ROUNDS change the size; BINARY names a martlet that is built already.
# Every server is started for its turn alone, from a temporary folder, on loopback, on a port that was free, without
# rights; the services of Debian's packages are not used.
set -euo pipefail
cd "$(dirname "$0")/../.."
pairs=${PAIRS:-1000}
rounds=${ROUNDS:-3}
size=(--pairs "$pairs" --bytes "${BYTES:-100}" --depth "${DEPTH:-8}" --seconds "${SECONDS_EACH:-6}")
binary=${BINARY:-.build/release/martlet}
[ -n "${BINARY:-}" ] || swift build -c release --product martlet >&2
systems=("$@")
[ ${#systems[@]} -gt 0 ] || systems=(martlet mosquitto ejabberd ejabberd+archive)

scratch=$(mktemp -d)
chmod 755 "$scratch"
results=$scratch/results
started=()
stop() {
  local pid
  # The last one first: ejabberd before its database.
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    pid=${started[i]}
    kill "$pid" 2>/dev/null || true
    # A server that does not go by itself is ended: the next one's figures must not suffer from it.
    for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  started=()
}
trap 'stop; rm -rf "$scratch"' EXIT

fail() { # what, log
  echo "$1:" >&2
  tail -n 30 "$2" >&2
  exit 1
}

# Peers run without rights, also for root.
unprivileged() {
  if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all "$@"
  else
    exec "$@"
  fi
}

folder() { # name: an empty folder that a peer may write to
  rm -rf "${scratch:?}/$1"
  mkdir -p "$scratch/$1"
  if [ "$(id -u)" = 0 ]; then chown nobody:nogroup "$scratch/$1"; fi
  echo "$scratch/$1"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_until() { # log, command ...: until it succeeds, while the server last started lives
  local log=$1
  shift
  for _ in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    kill -0 "${started[-1]}" 2>/dev/null || fail "$system ended" "$log"
    sleep 0.1
  done
  fail "$system did not start within 60 s" "$log"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

bench() { # arguments ...: adds a line to the results
  local pids=("${started[@]}") line
  line=$(timeout 300 "$binary" bench chat "${size[@]}" "$@" --pid "${pids[@]}" --json) || {
    echo "$system: measured with errors, or not at all" >&2
    failed=1
  }
  [ -z "$line" ] || printf '%s\t%s\n' "$system" "$line" >>"$results"
  last=$line
}

# --- the systems

run_martlet() {
  local data
  data=$scratch/martlet
  rm -rf "$data" "$data.ready"
  mkdir -p "$data"
  "$binary" up --data "$data" --http-port 0 --ws-port 0 --tcp-port 0 --rpc-port 0 --ready-file "$data.ready" \
    >"$data.log" 2>&1 &
  started+=($!)
  wait_until "$data.log" test -s "$data.ready"
  bench --server "127.0.0.1:$(grep -oE '"tcp_port" *: *[0-9]+' "$data.ready" | grep -oE '[0-9]+$')" \
    --access "$data/demo.json"
}

run_mosquitto() {
  local data port
  data=$(folder mosquitto)
  port=$(free_port)
  # Nothing is stored; what is not sent at once waits in memory, and no limit drops it.
  cat >"$data/mosquitto.conf" <<END
listener $port 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
log_dest stderr
log_type error
log_type warning
END
  (unprivileged mosquitto -c "$data/mosquitto.conf") >"$scratch/mosquitto.log" 2>&1 &
  started+=($!)
  wait_until "$scratch/mosquitto.log" listening "$port"
  bench --protocol mqtt --server "127.0.0.1:$port"
}

# The modules beyond stream management are what the argument says; everything else is ejabberd's default.
start_ejabberd() { # modules and settings for the archive
  local data log libraries register
  data=$(folder ejabberd)
  log=$scratch/ejabberd.log
  ejabberd_port=$(free_port)
  libraries=$(dirname "$(dirname "$(dirname "$(dpkg -L ejabberd | grep '/ebin/ejabberd.app$')")")")
  cat >"$data/ejabberd.yml" <<END
hosts: [localhost]
loglevel: warning
log_rotate_count: 0
auth_method: internal
auth_password_format: plain
auth_use_cache: false
listen:
  -
    port: $ejabberd_port
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: all
    shaper: none
    backlog: 1024
    max_stanza_size: 262144
$1
END
  # Real accounts, made by ejabberd's own function before anybody logs in.
  register="Made = [ejabberd_auth:try_register(iolist_to_binary([Side, integer_to_list(N)]), <<\"localhost\">>,
    <<\"secret\">>) || Side <- [\"bench-a\", \"bench-b\"], N <- lists:seq(0, $pairs - 1)],
    ok = file:write_file(\"$data/accounts\", integer_to_list(length([ok || ok <- Made])))."
  (
    cd "$data"
    export HOME=$data ERL_LIBS=$libraries ERL_CRASH_DUMP=$data/crash ERL_MAX_PORTS=32000
    export EJABBERD_CONFIG_PATH=$data/ejabberd.yml EJABBERD_LOG_PATH=$data/ejabberd.log
    # The options of ejabberdctl, without its node name: no epmd is needed, and none is left behind.
    unprivileged erl +K true +P 250000 -mnesia dir "\"$data/mnesia\"" -s ejabberd -noinput -eval "$register"
  ) >"$log" 2>&1 &
  started+=($!)
  wait_until "$log" test -s "$data/accounts"
  [ "$(cat "$data/accounts")" = $((2 * pairs)) ] || fail "$system did not make all accounts" "$log"
  wait_until "$log" listening "$ejabberd_port"
}

run_ejabberd() {
  start_ejabberd "modules:
  mod_stream_mgmt: {}"
  bench --protocol xmpp --server "127.0.0.1:$ejabberd_port"
}

sql() { mariadb --no-defaults --socket="$scratch/mariadb/socket" --user=root --batch --skip-column-names "$@"; }

run_ejabberd+archive() {
  local data port rows least
  data=$(folder mariadb)
  port=$(free_port)
  (unprivileged mariadb-install-db --no-defaults --datadir="$data/data" --auth-root-authentication-method=normal \
    --skip-test-db) >"$scratch/mariadb.log" 2>&1 || fail "MariaDB's folder could not be made" "$scratch/mariadb.log"
  # Every commit is on the disk before it is answered, as with Martlet's log. Room enough that nothing waits for memory.
  (unprivileged mariadbd --no-defaults --datadir="$data/data" --socket="$data/socket" --pid-file="$data/pid" \
    --bind-address=127.0.0.1 --port="$port" --innodb-flush-log-at-trx-commit=1 --innodb-buffer-pool-size=512M \
    --innodb-log-file-size=512M --character-set-server=utf8mb4) >>"$scratch/mariadb.log" 2>&1 &
  started+=($!)
  wait_until "$scratch/mariadb.log" sql -e 'SELECT 1'
  sql -e "CREATE DATABASE ejabberd; CREATE USER ejabberd@'127.0.0.1' IDENTIFIED BY 'secret';
    GRANT ALL ON ejabberd.* TO ejabberd@'127.0.0.1'"
  sql ejabberd </usr/share/ejabberd/sql/mysql.sql
  start_ejabberd "sql_type: mysql
sql_server: 127.0.0.1
sql_port: $port
sql_database: ejabberd
sql_username: ejabberd
sql_password: secret
sql_pool_size: ${SQL_POOL:-10}
modules:
  mod_stream_mgmt: {}
  mod_mam:
    db_type: sql
    default: always"
  bench --protocol xmpp --archived --server "127.0.0.1:$ejabberd_port"
  # One row for each side of every message that was counted, or it was not archived.
  rows=$(sql ejabberd -e 'SELECT COUNT(*) FROM archive')
  least=$(python3 -c 'import json, sys; r = json.loads(sys.argv[1]); print(2 * (r["messages"] + r["paced_messages"]))' \
    "${last:-{\}}")
  echo "archive: $rows rows; the messages counted need $least" >&2
  [ "$rows" -ge "$least" ] || fail "$system: messages are missing in the archive" "$scratch/ejabberd.log"
}

# --- the rounds

failed=0
for round in $(seq "$rounds"); do
  order=("${systems[@]}")
  # Every second round backwards, so that nobody always comes after the same one.
  if [ $((round % 2)) = 0 ]; then mapfile -t order < <(printf '%s\n' "${systems[@]}" | tac); fi
  for system in "${order[@]}"; do
    if ! declare -F "run_$system" >/dev/null; then
      echo "there is no $system: martlet, mosquitto, ejabberd or ejabberd+archive" >&2
      exit 2
    fi
    echo "== round $round of $rounds: $system" >&2
    "run_$system"
    stop
  done
done
python3 Tests/Benchmarks/peers.py "$results"
exit "$failed"

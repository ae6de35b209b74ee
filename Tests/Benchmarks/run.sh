#!/usr/bin/env bash
# Starts a release `martlet up` with a fresh data folder and runs the benches against it; the last line of each is its
# JSON. Docs/benchmarks.md says what the figures mean.
#   Tests/Benchmarks/run.sh [chat] [processes] [tcp] [websocket] [neighbour] [budgets] [storage]    without arguments: all
# PAIRS, SECONDS_EACH, CONNECTIONS and TURNS change the size; BINARY names a martlet that is built already; WRITE=1
# makes what is counted the new budgets.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${BINARY:-.build/release/martlet}
[ -n "${BINARY:-}" ] || swift build -c release --product martlet >&2

scratch=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
  fi
}
trap 'stop; rm -rf "$scratch"' EXIT

# A server of its own for every bench: memory that one has freed would flatter the next.
start() { # name, arguments of `martlet up` ...
  local name=$1
  shift
  local data=$scratch/$name
  ready=$data.ready
  access=$data/demo.json
  pids=$data/pids.json
  mkdir -p "$data"
  "$binary" up --data "$data" --http-port 0 --ws-port 0 --tcp-port 0 --rpc-port 0 --ready-file "$ready" \
    "$@" >"$data.log" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    [ -s "$ready" ] && return 0
    if ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 0.1
  done
  echo "the server did not start:" >&2
  cat "$data.log" >&2
  exit 1
}

address() { # tcp | ws: HOST:PORT out of the ready file
  local port
  port=$(grep -oE "\"$1_port\" *: *[0-9]+" "$ready" | grep -oE '[0-9]+$')
  echo "127.0.0.1:$port"
}

failed=0
bench() { # name, arguments ...
  local name=$1
  shift
  echo "== $name" >&2
  # The services of `up --processes` have theirs in a file of name: [pid ...].
  local all=("$server")
  if [ -s "$pids" ]; then mapfile -t -O 1 all < <(grep -oE '\b[0-9]+\b' "$pids"); fi
  "$binary" bench "$@" --json --access "$access" --pid "${all[@]}" || failed=1
  stop
}

budgets() {
  echo "== budgets" >&2
  local write=()
  if [ -n "${WRITE:-}" ]; then write=(--write); fi
  python3 Tests/Benchmarks/budgets.py --binary "$binary" --server "$(address tcp)" --access "$access" --pid "$server" \
    "${write[@]}" || failed=1
  stop
}

[ $# -gt 0 ] || set -- chat processes tcp websocket neighbour budgets storage
for one in "$@"; do
  case $one in
    chat | tcp | websocket | neighbour | budgets) start "$one" ;;
    processes) start "$one" --processes ;;
    # Starts its servers and suites itself.
    storage) ;;
    *)
      echo "no bench is called $one: chat, processes, tcp, websocket, neighbour, budgets or storage" >&2
      exit 2
      ;;
  esac
  case $one in
    chat | processes)
      bench "$one" chat --server "$(address tcp)" --pairs "${PAIRS:-1000}" --seconds "${SECONDS_EACH:-10}"
      ;;
    tcp) bench "idle, TCP" idle --server "$(address tcp)" --connections "${CONNECTIONS:-5000}" ;;
    websocket)
      bench "idle, WebSocket" idle --websocket --server "$(address ws)" --connections "${CONNECTIONS:-5000}"
      ;;
    neighbour)
      bench "neighbour of hostile clients" neighbour --server "$(address tcp)" --turns "${TURNS:-5}" --limit 2
      ;;
    budgets) budgets ;;
    storage)
      echo "== storage" >&2
      MARTLET=$binary python3 Tests/Benchmarks/storage.py || failed=1
      ;;
  esac
done
exit "$failed"

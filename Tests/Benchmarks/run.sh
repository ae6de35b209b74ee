#!/usr/bin/env bash
# Starts a release `martlet up` with a fresh data folder and runs the benches against it; the last line of each is its
# JSON. Docs/benchmarks.md says what the figures mean.
#   Tests/Benchmarks/run.sh [chat] [tcp] [websocket]        without arguments: all
# PAIRS, SECONDS_EACH and CONNECTIONS change the size; BINARY names a martlet that is built already.
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
start() { # name
  local data=$scratch/$1
  ready=$data.ready
  access=$data/demo.json
  mkdir -p "$data"
  "$binary" up --data "$data" --http-port 0 --ws-port 0 --tcp-port 0 --ready-file "$ready" >"$data.log" 2>&1 &
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
  "$binary" bench "$@" --json --access "$access" --pid "$server" || failed=1
  stop
}

[ $# -gt 0 ] || set -- chat tcp websocket
for one in "$@"; do
  case $one in
    chat | tcp | websocket) start "$one" ;;
    *)
      echo "no bench is called $one: chat, tcp or websocket" >&2
      exit 2
      ;;
  esac
  case $one in
    chat) bench chat chat --server "$(address tcp)" --pairs "${PAIRS:-1000}" --seconds "${SECONDS_EACH:-10}" ;;
    tcp) bench "idle, TCP" idle --server "$(address tcp)" --connections "${CONNECTIONS:-5000}" ;;
    websocket)
      bench "idle, WebSocket" idle --websocket --server "$(address ws)" --connections "${CONNECTIONS:-5000}"
      ;;
  esac
done
exit "$failed"

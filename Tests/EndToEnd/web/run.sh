#!/usr/bin/env bash
# The page in a real Chromium against a real suite, which is killed and started again in the middle.
set -euo pipefail
cd "$(dirname "$0")/../../.."
martlet=${MARTLET:-.build/debug/martlet}
case $martlet in /*) ;; *) martlet=$PWD/$martlet ;; esac
folder=$(mktemp -d)
ports=(--http-port 0 --ws-port 0 --tcp-port 0 --rpc-port 0)
# The restart keeps the ports: a page reconnects to the address that it knows.
cat >"$folder/control" <<CONTROL
#!/usr/bin/env bash
set -euo pipefail
field() { python3 -c "import json,sys; print(json.load(open('$folder/ready.json'))[sys.argv[1]])" "\$1"; }
case \$1 in
stop) kill -9 "\$(field pid)"; while kill -0 "\$(field pid)" 2>/dev/null; do sleep 0.05; done ;;
start)
  ports=(${ports[*]})
  if [ -e "$folder/ready.json" ]; then
    ports=(--http-port "\$(field http_port)" --ws-port "\$(field ws_port)" --tcp-port "\$(field tcp_port)" --rpc-port 0)
    rm "$folder/ready.json"
  fi
  "$martlet" up --data "$folder/data" --ready-file "$folder/ready.json" "\${ports[@]}" >>"$folder/log" 2>&1 </dev/null &
  for _ in \$(seq 200); do [ -s "$folder/ready.json" ] && exit 0; sleep 0.1; done
  tail -n 20 "$folder/log" >&2
  exit 1 ;;
esac
CONTROL
chmod +x "$folder/control"
finish() {
  "$folder/control" stop 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT
"$folder/control" start
read -r port alice bob carol < <(python3 - "$folder" <<'READ'
import json, sys
ready, demo = json.load(open(sys.argv[1] + "/ready.json")), json.load(open(sys.argv[1] + "/data/demo.json"))
print(ready["http_port"], demo["users"]["alice"], demo["users"]["bob"], demo["users"]["carol"])
READ
)
# Debian's Selenium belongs to Debian's Python.
/usr/bin/python3 Tests/EndToEnd/web/test_chat_page.py --base-url "http://127.0.0.1:$port" \
  --user "alice:$alice" --user "bob:$bob" --user "carol:$carol" --restart-cmd "$folder/control" ${MARTLET_SCREENSHOT:+--screenshot "$MARTLET_SCREENSHOT"}
# Once more behind TLS: the page by https, its connection by wss.
MARTLET="$martlet" /usr/bin/python3 Tests/EndToEnd/web/test_chat_page.py --tls
echo "summary: by http and by https: two users, two windows, a killed server: nothing lost, nothing doubled"

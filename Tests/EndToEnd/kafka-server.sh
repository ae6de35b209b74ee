#!/usr/bin/env bash
# Installs a server of Kafka's protocol (noida-db) under .build, and prints where its program is.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$PWD/.build/kafka-server
version=0.2.3
if [ "$("$venv/bin/pip" show noida-db 2>/dev/null | sed -n 's/^Version: //p')" != "$version" ]; then
  python3 -m venv --clear "$venv" >&2
  "$venv/bin/pip" install --quiet "noida-db==$version" >&2
fi
# The program itself: the script in bin/ starts it and passes no signals on.
"$venv/bin/python" -c 'import noida_db, pathlib; print(pathlib.Path(noida_db.__file__).with_name("noida-db"))'

#!/usr/bin/env bash
# Debian's python3-selenium belongs to Debian's own Python.
set -euo pipefail
exec /usr/bin/python3 "$(dirname "$0")/test_chat_page.py" "$@"

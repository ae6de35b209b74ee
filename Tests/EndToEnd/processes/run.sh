#!/usr/bin/env bash
set -euo pipefail
python3 "$(dirname "$0")/test_without_im.py"
exec python3 "$(dirname "$0")/test_processes.py"

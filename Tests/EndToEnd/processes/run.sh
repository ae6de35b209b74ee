#!/usr/bin/env bash
set -euo pipefail
python3 "$(dirname "$0")/test_without_im.py"
python3 "$(dirname "$0")/test_paused_writers.py"
exec python3 "$(dirname "$0")/test_processes.py"

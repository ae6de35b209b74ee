#!/usr/bin/env bash
# The short form of `martlet bench storage` on real servers: what is counted as stored is what was acknowledged, every figure
# is there, and each tier answers its own pages.
cd "$(dirname "$0")/../../.." && exec python3 Tests/Benchmarks/storage.py --short

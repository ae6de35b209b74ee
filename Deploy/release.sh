#!/usr/bin/env bash
# Builds martlet and one executable a service into .build/dist: optimised, with Swift's libraries inside, stripped.
# What a machine needs to run them: glibc and libsqlite3.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=.build/dist
# A build folder of its own: linking Swift's libraries statically compiles everything differently, and the release build
# that `make bench` uses would be thrown away each time.
scratch=.build/static
export MARTLET_EXECUTABLES=1
services=$(ls -d Sources/Mains/martlet-* | xargs -n 1 basename)
swift build -c release --static-swift-stdlib --scratch-path "$scratch"
rm -rf "$dist"
mkdir -p "$dist"
for name in martlet $services; do
  # -s: symbols, too; a stack trace of a stripped program shows addresses, which the unstripped one in $scratch explains.
  strip -s -o "$dist/$name" "$scratch/release/$name"
done
# The chat page is looked for beside the program.
cp -r Sources/Clients/Web "$dist/web"
for name in martlet $services; do
  "$dist/$name" --version >/dev/null
  printf '%-22s %6.1f MB\n' "$name" "$(stat -c %s "$dist/$name" | awk '{ print $1 / 1048576 }')"
done
printf '%-22s %6.1f MB in %s\n' "together" "$(du -sb "$dist" | awk '{ print $1 / 1048576 }')" "$dist"

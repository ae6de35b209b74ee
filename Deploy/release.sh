#!/usr/bin/env bash
# Builds martlet into .build/dist: optimised, with Swift's libraries inside, stripped, and under the name of every service
# as well (links: martlet-im is martlet, told by its name what to be). Foundation and Swift alone are most of its size, so
# thirteen programs of their own would be thirteen times that. What a machine needs to run it: glibc, libstdc++,
# libsqlite3, libhiredis, librdkafka1 and libmariadb.
#   Deploy/release.sh [--link FOLDER]   with --link: only the links and the page, for a program that is in FOLDER already
set -euo pipefail
cd "$(dirname "$0")/.."
dist=.build/dist
services=$(ls -d Sources/Mains/martlet-* | xargs -n 1 basename)
if [ "${1:-}" = --link ]; then
  dist=${2:?a folder}
else
  # A build folder of its own: linking Swift's libraries statically compiles everything differently, and the release build
  # that `make bench` uses would be thrown away each time.
  scratch=.build/static
  swift build -c release --product martlet --static-swift-stdlib --scratch-path "$scratch"
  rm -rf "$dist"
  mkdir -p "$dist"
  # -s: symbols, too; a stack trace of a stripped program shows addresses, which the unstripped one in $scratch explains.
  strip -s -o "$dist/martlet" "$scratch/release/martlet"
fi
# Relative, so that the folder can be copied and moved.
for name in $services; do ln -sf martlet "$dist/$name"; done
# The chat page is looked for beside the program.
rm -rf "$dist/web"
cp -r Sources/Clients/Web "$dist/web"
for name in martlet $services; do "$dist/$name" --version >/dev/null; done
printf '%-22s %6.1f MB\n' "martlet" "$(stat -c %s "$dist/martlet" | awk '{ print $1 / 1048576 }')"
printf '%-22s %6.1f MB in %s, %s names\n' "together" "$(du -s --block-size=1 "$dist" | awk '{ print $1 / 1048576 }')" \
  "$dist" "$(echo martlet $services | wc -w)"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds bitlathe with the CUDA module and gathers everything that has to travel to a GPU machine without development headers:
# program, module, plugins, themes, checkpoint generator, test programs, and the shared libraries that machine may lack.
# Result: .device/ in the repository (ignored by git). Then, on the GPU machine, from the repository's root: bash tests/gpu/run.sh
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$top/build-device
out=$top/.device
cuda=ON
command -v nvcc >/dev/null || cuda=OFF
cmake -G Ninja -S "$top" -B "$build" -DCMAKE_BUILD_TYPE=Release -DBL_CUDA=$cuda -DBL_TESTS=ON \
	-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN;$ORIGIN/lib;$ORIGIN/../lib' >/dev/null
ninja -C "$build" | tail -n 1
rm -rf "$out"
mkdir -p "$out/lib" "$out/tests"
cp "$build/bitlathe" "$out/"
cp -r "$build/plugins" "$build/themes" "$out/"
find "$build" -maxdepth 2 -name 'bitlathe_cuda.so' -exec cp {} "$out/" \;
find "$build/tests" -type f -perm -u+x \( -name 'test_kernels_*' -o -name 'test_stats_*' -o -name make_checkpoint \) -exec cp {} "$out/tests/" \;
# every library but the C library's own, which must be the machine's
for f in "$out/bitlathe" "$out"/tests/*; do ldd "$f"; done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
	grep -Ev '/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*|libresolv)\.so' | while read -r lib; do cp -L "$lib" "$out/lib/"; done
strip "$out/bitlathe" "$out"/tests/* 2>/dev/null || true
du -sh "$out" | cut -f1

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds bitlathe with the CUDA module and gathers everything that has to travel to a GPU machine without development headers:
# program, module, plugins, themes, checkpoint generator, test programs, the shared libraries that machine may lack, and reference data, packed.
# Environment: BL_SHARED, the folder of reference models and data (default ../shared beside the repository; without it those tests are skipped);
# BL_BUNDLE_SHARED, what of it travels; BL_CUDA_ARCH, architectures (default: all that are supported).
# Result: .device/ in the repository (ignored by git). Then, on the GPU machine, from the repository's root: bash tests/gpu/run.sh
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$top/build-device
out=$top/.device
shared=${BL_SHARED:-$top/../shared}
cuda=ON
command -v nvcc >/dev/null || cuda=OFF
cmake -G Ninja -S "$top" -B "$build" -DCMAKE_BUILD_TYPE=Release -DBL_CUDA=$cuda -DBL_TESTS=ON ${BL_CUDA_ARCH:+-DCMAKE_CUDA_ARCHITECTURES="$BL_CUDA_ARCH"} \
	-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN;$ORIGIN/lib;$ORIGIN/../lib' >/dev/null
ninja -C "$build" | tail -n 1
rm -rf "$out"
mkdir -p "$out/lib" "$out/tests"
cp "$build/bitlathe" "$out/"
cp -r "$build/plugins" "$build/themes" "$out/"
find "$build" -maxdepth 2 -name 'bitlathe_cuda.so' -exec cp {} "$out/" \;
find "$build/tests" -type f -perm -u+x \( -name 'test_kernels_*' -o -name 'test_stats_*' -o -name 'test_forward_*' -o -name 'test_evaluate_*' \
	-o -name 'test_tune_*' -o -name 'test_backend_*' -o -name 'test_session_live' -o -name make_checkpoint \) -exec cp {} "$out/tests/" \;
# every library but the C library's own, which must be the machine's
for f in "$out/bitlathe" "$out"/tests/* "$out"/plugins/*; do ldd "$f" 2>/dev/null || true; done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
	grep -Ev '/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*|libresolv)\.so' | while read -r lib; do cp -L "$lib" "$out/lib/"; done
echo "$top" >"$out/source" # where the test programs look for their data
strip "$out/bitlathe" "$out"/tests/* 2>/dev/null || true
if [ -d "$shared" ]; then
	mkdir "$out/shared"
	(cd "$shared" && tar -ch ${BL_BUNDLE_SHARED:-golden/arch golden/tiny-exaone4 models/tiny-exaone4}) | tar -C "$out/shared" -x
	# the small model travels with the repository already; run.sh links it
	cmp -s "$out/shared/models/tiny-exaone4/model.safetensors" "$top/tests/models/tiny-exaone4/model.safetensors" && rm -rf "$out/shared/models/tiny-exaone4"
fi
# one packed file: what travels is limited. run.sh unpacks it where it lies
XZ_OPT="-T0 -6" tar -C "$out" --exclude=./source -cJf "$build/pack.tar.xz" .
mv "$build/pack.tar.xz" "$out/"
find "$out" -mindepth 1 -maxdepth 1 ! -name pack.tar.xz ! -name source -exec rm -rf {} +
du -sh "$out" | cut -f1

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on a GPU machine (or any machine) from the repository's root what bundle.sh gathered: kernel checks, goldens on the device, statistics, the
# bench of the 1.2B shape. Usage: tests/gpu/run.sh [check] [golden] [bench] [cuda] [sanitize]; default: check golden cuda. Prints the device first.
# Logs go to $OUT (default: a folder in TMPDIR).
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/.device
work=${TMPDIR:-/tmp}/bitlathe-device
log=${OUT:-$work}
stages=${*:-check golden cuda}
mkdir -p "$work" "$log"
fails=0
[ -f "$here/lib.tar.xz" ] && [ ! -d "$work/lib" ] && tar -C "$work" -xJf "$here/lib.tar.xz"
[ -f "$here/shared.tar.xz" ] && [ ! -d "$work/shared" ] && mkdir -p "$work/shared" && tar -C "$work/shared" -xJf "$here/shared.tar.xz"
# the machine's CUDA libraries, where its toolkit has them
cuda_lib=$(for d in /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib; do [ -e "$d/libcublasLt.so" ] && echo "$d" && break; done)
[ -n "$cuda_lib" ] || cuda_lib=$(dirname "$(find / -xdev -name 'libcublasLt.so.1[23]' 2>/dev/null | head -n 1)" 2>/dev/null)
export LD_LIBRARY_PATH=$work/lib:${cuda_lib:-.}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} BL_BUILD_DIR=$here BL_SHARED=$work/shared
echo "device: $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo 'no GPU')"
echo "cpu: $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) cores"
one() { # name, command...
	local name=$1
	shift
	if "$@" >"$log/$name.log" 2>&1; then echo "ok    $name"; else echo "FAIL  $name"; fails=$((fails + 1)); grep -vE '^\[' "$log/$name.log" | tail -n 5 | cut -c1-240; fi
}
stage_check() {
	for t in "$here"/tests/test_kernels_* "$here"/tests/test_stats_* "$here"/tests/test_backend_*; do
		[ -x "$t" ] && one "$(basename "$t")" "$t"
	done
	"$here/bitlathe" doctor
}
stage_golden() {
	for t in "$here"/tests/test_forward_* "$here"/tests/test_evaluate_*; do
		[ -x "$t" ] && BL_TEST_DEVICE=cuda one "$(basename "$t").cuda" "$t"
	done
}
# small shapes: the library's kernels for large ones store in ways that racecheck and initcheck do not follow (gemm_codes is left out of initcheck for that)
stage_sanitize() {
	export BL_TEST_SMALL=1 BL_TEST_ROUNDS=${BL_TEST_ROUNDS:-3}
	for t in test_kernels_cuda test_kernels_run_cuda test_kernels_grad_cuda; do
		one "memcheck.$t" compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9 "$here/tests/$t"
		one "racecheck.$t" compute-sanitizer --tool racecheck --error-exitcode 9 "$here/tests/$t"
		BL_TEST_ONLY="gemm rows elements rope attention stats sums losses copies norm heads fake tokens steps" one "initcheck.$t" compute-sanitizer --tool initcheck --error-exitcode 9 "$here/tests/$t"
	done
	unset BL_TEST_SMALL BL_TEST_ROUNDS
}
model() { [ -f "$work/exaone-1.2b/config.json" ] || "$here/tests/make_checkpoint" exaone4-1.2b "$work/exaone-1.2b"; }
stage_bench() {
	model
	"$here/bitlathe" bench --model "$work/exaone-1.2b" -o "$work" 2>"$log/bench.err" | tee "$log/bench.txt"
	tail -n 3 "$log/bench.err"
}
stage_cuda() {
	model
	"$here/bitlathe" bench cuda --model "$work/exaone-1.2b" -o "$work" 2>"$log/bench-cuda.err" | tee "$log/bench-cuda.txt"
	tail -n 3 "$log/bench-cuda.err"
}
for s in $stages; do "stage_$s"; done
echo "$fails failed"
exit $((fails > 0))

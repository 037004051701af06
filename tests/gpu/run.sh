#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on a GPU machine (or any machine) from the repository's root what bundle.sh gathered: kernel checks, goldens on the device, statistics, the
# bench of the 1.2B shape, edits and forward as a person waits for them (live), calibrations under limits (limits), the workbench itself in tmux (tour).
# Usage: tests/gpu/run.sh [check] [golden] [bench] [cuda] [sanitize] [live] [limits] [tour] [tune] [sweep] [gptq] [autoround] [methods] [table]; default: check golden cuda. Prints the device first.
# Logs go to $OUT (default: a folder in TMPDIR). live, limits and tour take any machine with BL_GPU_SHAPE=tiny: a small model, short windows.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/.device
work=${TMPDIR:-/tmp}/bitlathe-device
log=${OUT:-$work}
stages=${*:-check golden cuda}
mkdir -p "$work" "$log"
fails=0
# checkpoints and calibrations: in memory where there is enough of it, so that no disk is measured
big=$work
[ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 50000000 ] 2>/dev/null && big=/dev/shm/bitlathe-device
mkdir -p "$big"
# the test programs look for their data where they were built
source=$(cat "$here/source" 2>/dev/null)
[ -n "$source" ] && [ ! -e "$source" ] && mkdir -p "$(dirname "$source")" 2>/dev/null && ln -s "$top" "$source" 2>/dev/null
trap '[ "$big" = "$work" ] || rm -rf "$big"' EXIT
if [ "$here/pack.tar.xz" -nt "$work/bundle/unpacked" ]; then
	mkdir -p "$work/bundle"
	tar -C "$work/bundle" -xJf "$here/pack.tar.xz" && touch "$work/bundle/unpacked"
	[ -e "$work/bundle/shared/models/tiny-exaone4/config.json" ] || { rm -f "$work/bundle/shared/models/tiny-exaone4" && ln -s "$top/tests/models/tiny-exaone4" "$work/bundle/shared/models/"; }
fi
here=$work/bundle
[ -d "$here/shared" ] && shared=$here/shared
# the machine's CUDA libraries, where its toolkit has them
cuda_lib=$(for d in /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib; do [ -e "$d/libcublasLt.so" ] && echo "$d" && break; done)
[ -n "$cuda_lib" ] || cuda_lib=$(dirname "$(find / -xdev -name 'libcublasLt.so.1[23]' 2>/dev/null | head -n 1)" 2>/dev/null)
# our own libraries are found through the programs' run path: on this variable they would also reach the machine's tmux
export LD_LIBRARY_PATH=${cuda_lib:-.}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} BL_BUILD_DIR=$here BL_SHARED=${shared:-$work/shared}
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
	for t in "$here"/tests/test_forward_* "$here"/tests/test_tune_* "$here"/tests/test_evaluate_* "$here"/tests/test_session_* "$here"/tests/test_solve_cross; do
		[ -x "$t" ] && BL_TEST_DEVICE=cuda one "$(basename "$t").cuda" "$t"
	done
}
# small shapes: the library's kernels for large ones store in ways that racecheck and initcheck do not follow (gemm_codes is left out of initcheck for that)
stage_sanitize() {
	export BL_TEST_SMALL=1 BL_TEST_ROUNDS=${BL_TEST_ROUNDS:-3}
	for t in test_kernels_cuda test_kernels_run_cuda test_kernels_grad_cuda; do
		one "memcheck.$t" compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9 "$here/tests/$t"
		one "racecheck.$t" compute-sanitizer --tool racecheck --error-exitcode 9 "$here/tests/$t"
		BL_TEST_ONLY="gemm groups rounding rows elements rope attention stats sums losses copies norm heads fake tokens steps" one "initcheck.$t" compute-sanitizer --tool initcheck --error-exitcode 9 "$here/tests/$t"
	done
	unset BL_TEST_SMALL BL_TEST_ROUNDS
}
# make NAME SHAPE [options]: a random checkpoint with the small model's tokenizer and template, so that text can be read with it
make() {
	local dir=$big/$1
	shift
	[ -f "$dir/made" ] && return
	"$here/tests/make_checkpoint" "$1" "$dir" "${@:2}" >/dev/null && cp "$top"/tests/models/tiny-exaone4/{tokenizer.json,tokenizer_config.json,special_tokens_map.json,chat_template.jinja} "$dir/" && touch "$dir/made"
}
model() { if [ "${BL_GPU_SHAPE:-}" = tiny ]; then make exaone-1.2b exaone4-tiny; else make exaone-1.2b exaone4-1.2b; fi; }
# rows N LENGTH: random tokens as rows of data, of ids that both the tokenizer and the model have
vocab=4096
[ "${BL_GPU_SHAPE:-}" = tiny ] && vocab=1000
rows() {
	awk -v n="$1" -v len="$2" -v vocab="$vocab" 'BEGIN { srand(5); for (i = 0; i < n; i++) { printf "{\"input_ids\": ["; for (k = 0; k < len; k++) printf "%s%d", k ? "," : "", int(rand() * vocab); print "]}" } }'
}
stage_bench() {
	model
	"$here/bitlathe" bench --model "$big/exaone-1.2b" -o "$work" 2>"$log/bench.err" | tee "$log/bench.txt"
	tail -n 3 "$log/bench.err"
}
stage_cuda() {
	model
	"$here/bitlathe" bench cuda --model "$big/exaone-1.2b" -o "$work" 2>"$log/bench-cuda.err" | tee "$log/bench-cuda.txt"
	tail -n 3 "$log/bench-cuda.err"
}
stage_live() {
	model
	TMPDIR=$big "$here/bitlathe" bench forward hessian live-error live-kl keys-calibrate --model "$big/exaone-1.2b" -o "$big" 2>"$log/bench-live.err" | tee "$log/bench-live.txt"
	tail -n 3 "$log/bench-live.err"
}
# calibration NAME MODEL WINDOWS LENGTH options: a line with its seconds, and their ratio to those of the last one without options
calibration() {
	local name=$1 dir=$big/$2 seconds
	rm -rf "$big/cache"
	"$here/bitlathe" calibrate "$dir" --data "$big/rows-$2.jsonl" --samples "$3" --seqlen "$4" --cache "$big/cache" -v "${@:5}" >"$log/$name.txt" 2>"$log/$name.err"
	seconds=$(awk '/^seconds/ { print $2 + 0 }' "$log/$name.txt")
	if [ -z "$seconds" ]; then echo "FAIL  $name"; fails=$((fails + 1)); tail -n 3 "$log/$name.err" "$log/$name.txt" | cut -c1-240; return; fi
	[ $# -gt 4 ] || unlimited=$seconds
	awk -v name="$name" -v s="$seconds" -v base="$unlimited" '/^seconds/ { rest = $0; sub(/^seconds [0-9.]*: /, "", rest) } /^memory/ { m = $2 " " $3 } /^digest/ { d = substr($2, 1, 12) }
		END { printf "%-28s %7.2f s  %5.2f x  %s, host %s  %s\n", name, s, s / base, rest, m, d }' "$log/$name.txt" | tee -a "$log/limits.txt"
	rm -rf "$big/cache"
}
stage_limits() {
	local n=512 len=1024 n32=256 small=4GiB large=10GiB ram=8GiB least=2GiB
	: >"$log/limits.txt"
	model
	if [ "${BL_GPU_SHAPE:-}" = tiny ]; then
		n=24 len=256 n32=24 small=24MiB large=32MiB ram=224MiB least=208MiB
		make exaone-32b llama-tiny
	else
		make exaone-32b exaone4-32b --blocks 4
	fi
	rows $n $len >"$big/rows-exaone-1.2b.jsonl"
	rows $n32 $len >"$big/rows-exaone-32b.jsonl"
	calibration small exaone-1.2b $n $len
	calibration small-$small exaone-1.2b $n $len --memory-limit $small
	calibration large exaone-32b $n32 $len
	calibration large-$large exaone-32b $n32 $len --memory-limit $large
	calibration large-$large-ram-$ram exaone-32b $n32 $len --memory-limit $large --ram-limit $ram
	calibration large-$large-ram-$least exaone-32b $n32 $len --memory-limit $large --ram-limit $least
	# a Hessian of 27392 x 27392 beside all else
	"$here/bitlathe" quantize "$big/exaone-32b" --set "all=BF16" --set "down=W4A16:gptq" --data "$big/rows-exaone-32b.jsonl" --samples 64 --seqlen $len --memory-limit $large -v \
		--cache "$big/cache" >"$log/down.log" 2>&1 || { echo "FAIL  down"; fails=$((fails + 1)); }
	grep -E 'down_proj|of work|rror' "$log/down.log" | tail -n 3 | cut -c1-160
	rm -rf "$big/exaone-32b" "$big/cache"
}
stage_tour() {
	model
	if TMPDIR=$big BL_BIN=$here/bitlathe OUT=$log BL_VOCAB=$vocab bash "$top/tests/gpu/tour.sh" "$big/exaone-1.2b" ${BL_GPU_SHAPE:+24 256} >"$log/tour.log" 2>&1; then echo "ok    tour"; else echo "FAIL  tour"; fails=$((fails + 1)); fi
	tail -n 14 "$log/tour.log"
}
. "$top/tests/gpu/tune.sh"
for s in $stages; do "stage_$s"; done
echo "$fails failed"
exit $((fails > 0))

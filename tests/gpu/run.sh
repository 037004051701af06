#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on a GPU machine (or any machine) from the repository's root what bundle.sh gathered: kernel checks, statistics, the 1.2B-shape bench.
# Usage: tests/gpu/run.sh [check] [bench] [sanitize] [OUT_DIR]; default: check bench. Prints the device first, a short table last.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/.device
work=${TMPDIR:-/tmp}/bitlathe-device
log=${OUT:-$work}
stages=${*:-check bench}
mkdir -p "$work" "$log"
fails=0
echo "device: $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo 'no GPU')"
echo "cpu: $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) cores"
stage_check() {
	for t in "$here"/tests/test_*; do
		[ -x "$t" ] || continue
		if "$t" >"$log/$(basename "$t").log" 2>&1; then echo "ok    $(basename "$t")"; else echo "FAIL  $(basename "$t")"; fails=$((fails + 1)); tail -n 5 "$log/$(basename "$t").log"; fi
	done
	"$here/bitlathe" doctor
}
stage_sanitize() {
	for tool in memcheck racecheck initcheck; do
		for t in "$here"/tests/test_kernels_*cuda*; do
			[ -x "$t" ] || continue
			compute-sanitizer --tool "$tool" --error-exitcode 9 "$t" >"$log/$tool.log" 2>&1 && echo "ok    $tool $(basename "$t")" ||
				{ echo "FAIL  $tool $(basename "$t")"; fails=$((fails + 1)); tail -n 5 "$log/$tool.log"; }
		done
	done
}
stage_bench() {
	[ -f "$work/exaone-1.2b/config.json" ] || "$here/tests/make_checkpoint" exaone4-1.2b "$work/exaone-1.2b"
	"$here/bitlathe" bench --model "$work/exaone-1.2b" -o "$work" 2>"$log/bench.err" | tee "$log/bench.txt"
	tail -n 3 "$log/bench.err"
}
for s in $stages; do "stage_$s"; done
echo "$fails failed"
exit $((fails > 0))

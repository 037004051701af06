#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A person's way through the workbench on this machine, in tmux: open, calibrate, set the schemes of one kind of unit by pattern (30 units of the 1.2B shape),
# watch error, KL, size and speed change, snapshot, export, verify. Every stop is kept as text in $OUT (01-open.txt ...).
# Usage: BL_BIN=build/bitlathe OUT=folder tests/gpu/tour.sh MODEL [WINDOWS LENGTH]; the model needs a tokenizer. Big files go to $TMPDIR.
BL_SOURCE_DIR=${BL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
export LC_ALL=C.UTF-8
BL_PTY_WAIT=${BL_PTY_WAIT:-120}
. "$BL_SOURCE_DIR/tests/pty/lib_tmux.sh"
model=$(cd "${1:?a model}" && pwd) windows=${2:-512} length=${3:-1024} out=${OUT:-.}
mkdir -p "$out"
vocab=${BL_VOCAB:-4096} # of the tokenizer that the model has, not of the model

shot() { screen >"$out/$1.txt"; }
# sees REGEX: like see
sees() {
	n=0
	until screen | grep -qE -- "$1"; do
		n=$((n + 1))
		[ $n -gt $((wait_s * 20)) ] && fail "the screen does not show: $1"
		sleep 0.05
	done
}
started=$(date +%s%N)
lap() { printf '%7.2f s  %s\n' "$(awk -v a="$started" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }')" "$1"; }
# edit PATTERN=SCHEME NAME: the screen at once, then when error and KL of the new plan are measured
edit() {
	type_text ":set $1"
	keys Enter
	sees 'units? changed'
	shot "$2-at-once"
	sees 'KL +[0-9][0-9.e-]*( |$)'
	shot "$2"
	lap "edited: $1, measured"
}

awk -v n="$windows" -v len="$length" -v vocab="$vocab" 'BEGIN { srand(9); for (i = 0; i < n; i++) { printf "{\"input_ids\": ["; for (k = 0; k < len; k++) printf "%s%d", k ? "," : "", int(rand() * vocab); print "]}" } }' >"$work/rows.jsonl"
lap "data"
start 132x40
ln -s "$model" "$work/model"
run "'$BL_BIN' model; echo left-\$?"
sees '[0-9]+ blocks, [0-9]+ units'
see 'w-err dB'
sleep 1.2 # the device is looked at once a second
shot 01-open
lap "open"

type_text ":calibrate rows.jsonl samples=$windows seqlen=$length"
keys Enter
sees 'block ([3-9]|[1-9][0-9])/|: done'
shot 02-calibrating
sees 'calibrate .*: done'
see ' err dB'
shot 03-calibrated
lap "calibrated"
keys Enter # what flows into a unit
see 'channels by |x|'
shot 04-unit
keys q

edit 'down=W4A16' 05-down
edit 'gate_up=W8A8' 06-gate-up
edit 'qkv=FP8_DYNAMIC' 07-qkv
keys u
sees 'undone'
sees 'KL +[0-9][0-9.e-]*( |$)' # known: nothing is measured again
shot 08-undone

type_text ":snapshot tour"
keys Enter
see '‹tour›'
keys S
see 'tour'
shot 09-snapshots
keys q

keys x
see 'every unit'
shot 10-export
keys Enter
see 'proved'
shot 11-exported
[ -s "$work/submit.zip" ] || fail "there is no submit.zip"
lap "exported"
keys q
keys V
type_text 'submit.zip'
keys Enter
see 'submit.zip: proved'
shot 12-verified
keys J
sees 'verify'
shot 13-jobs
keys q
keys Q
sleep 0.2
screen | grep -q 'left-0' || { keys y; see 'left-0'; }
lap "verified, left"
grep -h -E -o 'KL +[0-9.e-]+|size [0-9.]+ [GM]B' "$out"/0[5-8]*.txt | paste -sd' '
head -n 1 "$out/03-calibrated.txt"

# SPDX-License-Identifier: Apache-2.0
# Stages of run.sh that train: the recommended recipe and AutoRound over the protocol's schemes (tune), settings around the recommended ones (sweep), the time
# of GPTQ and AutoRound on the 1.2B shape (gptq, autoround), what GPTQ's relatives and HQQ reach (methods), every method (table). tune, sweep, methods and table need both
# models and the data in the bundle: BL_BUNDLE_SHARED="models data".
# one plan: what tuning says of itself, what the plan reaches on held-out text, seconds
tuned() { # model, name, options...
	local m=$BL_SHARED/models/$1-exaone4 name=$2 from=$(date +%s.%N) said got
	shift 2
	said=$("$here/bitlathe" quantize "$m" "$@" --cache "$work/cache" 2>&1 | grep -E 'held out|difference|^bitlathe|rror' | head -n 1 | sed 's/.* s  //')
	local mid=$(date +%s.%N)
	got=$("$here/bitlathe" evaluate "$m" "$@" --cache "$work/cache" --kl "$BL_SHARED/data/eval_books.jsonl" 2>&1 | grep -E 'KL|rror' | tr -s ' ' | tr '\n' ' ')
	echo "$(basename "$m") $name | $got| $said | $(awk -v a="$from" -v b="$mid" -v c="$(date +%s.%N)" 'BEGIN { printf "%.1f s, %.1f s to evaluate", b - a, c - b }')" | tee -a "$log/tune.txt"
}
calibrated() {
	for m in tiny hybrid; do
		"$here/bitlathe" calibrate "$BL_SHARED/models/$m-exaone4" --data "$BL_SHARED/data/calib_text.jsonl" --data "$BL_SHARED/data/calib_conversations.jsonl" \
			--seqlen 1024 --samples 1024 --cache "$work/cache" >"$log/calibrate-$m.log" 2>&1 || echo "FAIL  calibrate $m"
	done
}
# the recommended recipe and AutoRound over the protocol's schemes; needs models and data in the bundle (BL_BUNDLE_SHARED)
stage_tune() {
	calibrated
	for m in tiny hybrid; do
		for s in W4A16 W4A16_channel W3A16 W8A8; do
			tuned $m "$s recommended" --preset $s --recommended
			tuned $m "$s gptq" --set "all=$s:gptq"
		done
		tuned $m "W4A16 autoround" --set all=W4A16:autoround
	done
}
# settings around the recommended ones
stage_sweep() {
	calibrated
	for p in lr=0.002 lr=0.015 epochs=12 scale_lr=0 scale_lr=0.001 start=gptq start_iters=1000 step=sign; do
		tuned tiny "W4A16 tune,tries=1,$p" --set "all=W4A16:tune,tries=1,$p"
	done
	for p in lr=0.001 lr=0.005 lr=0.005,epochs=12; do
		tuned tiny "W8A8 tune,tries=1,$p" --set "all=W8A8:tune,tries=1,$p"
		tuned hybrid "W8A8 smooth tune,tries=1,$p" --set "all=W8A8:tune,tries=1,$p" --stage smooth
	done
}
# GPTQ and its relatives, HQQ beside plain rounding
stage_methods() {
	calibrated
	for m in tiny hybrid; do
		for s in W4A16 W3A16; do
			for p in rtn rtn,observer=mse hqq hqq,lp_norm=2,starts=8 gptq gptq,rounds=4 gptq,inputs=quantized gptq,inputs=quantized,qep_alpha=0.5 \
				gptq,inputs=quantized,qep_alpha=0.5,rounds=4 gptq,inputs=quantized,qep_alpha=1,rounds=4 gptaq gptaq,alpha=1 gptaq,rounds=4 qronos qronos,rounds=4 \
				qronos,alpha=0.5,rounds=4 qronos,dampening_frac=0.0001,rounds=4; do
				tuned $m "$s $p" --set "all=$s:$p"
			done
		done
	done
}
stage_autoround() {
	local n=128
	[ "${BL_GPU_SHAPE:-}" = tiny ] && n=8
	model
	rows $n 1024 >"$big/rows-autoround.jsonl"
	"$here/bitlathe" calibrate "$big/exaone-1.2b" --data "$big/rows-autoround.jsonl" --seqlen 1024 --samples $n --no-hessians --cache "$big/cache-autoround" \
		>"$log/calibrate-autoround.log" 2>&1 || tail -n 3 "$log/calibrate-autoround.log"
	local from=$(date +%s.%N)
	"$here/bitlathe" quantize "$big/exaone-1.2b" --set all=W4A16:autoround -o "$big/autoround" --force --cache "$big/cache-autoround" 2>&1 | tail -n 2 | cut -c1-200
	awk -v a="$from" -v b="$(date +%s.%N)" -v n=$n 'BEGIN { printf "AutoRound W4A16 %d x 1024 x 200, 1.2B, files to folder: %.1f s\n", n, b - a }' | tee -a "$log/tune.txt"
	rm -rf "$big/cache-autoround" "$big/autoround"
}
# one command: from files in the page cache to the written folder
stage_gptq() {
	local n=512
	[ "${BL_GPU_SHAPE:-}" = tiny ] && n=24
	model
	rows $n 1024 >"$big/rows-gptq.jsonl"
	cat "$big"/exaone-1.2b/*.safetensors >/dev/null
	for s in W8A8 W4A16; do
		for again in 1 2; do
			rm -rf "$big/gptq" "$big/cache-gptq"
			local from=$(date +%s.%N)
			"$here/bitlathe" quantize "$big/exaone-1.2b" --set "all=$s:gptq" --data "$big/rows-gptq.jsonl" --samples $n --seqlen 1024 -o "$big/gptq" --force -v --cache "$big/cache-gptq" >"$log/gptq-$s.log" 2>&1 || fails=$((fails + 1))
			awk -v a="$from" -v b="$(date +%s.%N)" -v s="$s" -v n=$n 'BEGIN { printf "GPTQ %s %d x 1024, 1.2B, files to folder: %.2f s", s, n, b - a }' | tee -a "$log/tune.txt"
			cat "$big"/gptq/*.safetensors | sha256sum | cut -c1-12 | sed 's/^/, bytes /' | tee -a "$log/tune.txt"
		done
		tail -n 4 "$log/gptq-$s.log" | cut -c1-200
	done
	rm -rf "$big/gptq" "$big/cache-gptq"
}
# every method over the protocol's schemes, both models: table.md
stage_table() {
	for m in tiny hybrid; do
		printf '\n## %s-exaone4\n\n' "$m"
		"$here/bitlathe" compare "$BL_SHARED/models/$m-exaone4" --all-methods --markdown --data "$BL_SHARED/data/calib_text.jsonl" --data "$BL_SHARED/data/calib_conversations.jsonl" \
			--samples 1024 --seqlen 1024 --ppl "$BL_SHARED/data/eval_books.jsonl" --kl "$BL_SHARED/data/eval_books.jsonl" --mcq "$BL_SHARED/data/facts_mcq.jsonl" \
			--windows 128 --cache "$work/cache" -q | grep '^|'
	done | tee "$log/table.md"
}

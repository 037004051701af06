#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Loads exports with the real clients: transformers 4.57.3 + compressed-tensors 0.13.0 (what vLLM 0.14.1 pins) and, for what only newer ones load,
# transformers 5.17.0 + compressed-tensors 0.19.0. Every export must load without a missing or unexpected key and give the logits that an independent decoding of
# the same files gives. bitsandbytes, transformers' GPTQ integration, GPTQModel's torch back ends and auto-round run on the CPU, too; what this program reads back from
# such exports is compared with the same independent decoding. Usage: tests/interop/run.sh [BUILD_DIR]. Skips with a reason when ../shared or the packages are not to be had.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "${1:-$top/build}" && pwd)/bitlathe
shared=${BL_SHARED:-$top/../shared}
cache=${BL_INTEROP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bitlathe-interop}
[ -d "$shared" ] && shared=$(cd "$shared" && pwd)
check=$shared/tools/check_export.py
[ -f "$check" ] || { echo "interop: skipped: $shared/tools is not there"; exit 77; }
[ -x "$bin" ] || { echo "interop: $bin is not built"; exit 1; }
python3 -m venv --help >/dev/null 2>&1 || { echo "interop: skipped: python3-venv is not installed"; exit 77; }
mkdir -p "$cache"

old=$cache/v457 new=$cache/v517
if ! "$old/bin/python" -c 'import torch, transformers, compressed_tensors, accelerate' 2>/dev/null; then
	rm -rf "$old"
	python3 -m venv "$old" && "$old/bin/pip" install -q 'torch==2.10.*' numpy safetensors transformers==4.57.3 compressed-tensors==0.13.0 accelerate ||
		{ echo "interop: skipped: the packages of the older client cannot be installed"; exit 77; }
fi
if ! "$new/bin/python" -c 'import transformers; assert transformers.__version__.startswith("5.17")' 2>/dev/null; then
	rm -rf "$new"
	python3 -m venv "$new"
	# the large packages are shared with the first environment
	(cd "$old"/lib/python3*/site-packages && pwd) >"$(echo "$new"/lib/python3*/site-packages)/shared.pth"
	"$new/bin/pip" install -q transformers==5.17.0 compressed-tensors==0.19.0 || rm -rf "$new"
fi

bnb=$cache/bnb
if [ -x "$new/bin/python" ] && ! "$bnb/bin/python" -c 'import bitsandbytes, transformers' 2>/dev/null; then
	rm -rf "$bnb"
	python3 -m venv "$bnb" # transformers of the older client, with which servers share their tokenizer files
	(cd "$old"/lib/python3*/site-packages && pwd) >"$(echo "$bnb"/lib/python3*/site-packages)/shared.pth"
	"$bnb/bin/pip" install -q --no-deps bitsandbytes==0.50.2 || rm -rf "$bnb"
fi

# GPTQ, AWQ, AutoRound: the versions that go with the older client; nothing is compiled
gptq=$cache/gptq no_gptq=
if ! "$gptq/bin/python" -c 'import gptqmodel, optimum, auto_round, datasets' >/dev/null 2>&1; then
	rm -rf "$gptq"
	python3 -m venv "$gptq"
	(cd "$old"/lib/python3*/site-packages && pwd) >"$(echo "$gptq"/lib/python3*/site-packages)/shared.pth"
	{ "$gptq/bin/pip" install -q -U 'setuptools<81' wheel && "$gptq/bin/pip" install -q datasets==4.4.1 pillow httpx py-cpuinfo &&
		BUILD_CUDA_EXT=0 "$gptq/bin/pip" install -q --no-deps --no-build-isolation gptqmodel==5.6.12 &&
		"$gptq/bin/pip" install -q --no-deps optimum==2.1.0 auto-round==0.15.1 logbar==0.4.15 tokenicer==0.0.14 device-smi==0.5.7 threadpoolctl==3.8.0 \
			random_word==1.0.13 pypcre==0.6.4; } >"$cache/gptq.log" 2>&1 || { no_gptq=$(grep -m 1 -i error "$cache/gptq.log" || tail -n 1 "$cache/gptq.log"); rm -rf "$gptq"; }
fi

work=$(mktemp -d) fails=0 passed=0 skipped=0
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1 # some clients leave folders where they run
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error CUDA_VISIBLE_DEVICES=
one() { # model, label, tolerance, python, options of check, then plan options
	local model=$1 label=$2 tol=$3 env=$4 extra=$5; shift 5
	local dir=$work/$model-$label dtype=float32
	case $label in nf4* | int8 | *fp4a16 | gptq | auto-round) dtype=bfloat16 ;; esac # these clients compute in 16 bits, whatever is asked for
	if [ ! -x "$env/bin/python" ]; then echo "skip  $model $label: that client is not installed"; skipped=$((skipped + 1)); return; fi
	if "$bin" export "$shared/models/$model" -q -o "$dir" "$@" >/dev/null && "$old/bin/python" "$top/tests/interop/expect.py" "$dir" "$shared/models/$model" "$dir.expect" $dtype >/dev/null &&
		"$env/bin/python" "$check" "$dir" --dtype $dtype --expect "$dir.expect" --tol "$tol" $extra >"$dir.log" 2>&1; then
		echo "ok    $model $label: $(grep -o 'relative [0-9.e+-]*' "$dir.log" | head -n 1)"; passed=$((passed + 1))
	else
		echo "FAIL  $model $label"; tail -n 8 "$dir.log" 2>/dev/null; fails=$((fails + 1))
	fi
	rm -rf "$dir"
}
# formats without a client here: the files, and the logits that this program computes from them
read_back() { # label, tolerance, then plan options
	local label=$1 tol=$2 model=tiny-exaone4; shift 2
	local dir=$work/$model-$label
	if "$bin" export "$shared/models/$model" -q -o "$dir" "$@" >/dev/null && "$old/bin/python" "$top/tests/interop/expect.py" "$dir" "$shared/models/$model" "$dir.expect" bfloat16 >/dev/null &&
		"$old/bin/python" "$check" "$dir" --files-only >"$dir.log" 2>&1 && "$bin" forward "$dir" --ids "$dir.expect" -o "$dir.out" --logits last:16 -q >>"$dir.log" 2>&1 &&
		"$old/bin/python" - "$dir.expect" "$dir.out" "$tol" >>"$dir.log" 2>&1 <<'END'; then
import sys
from safetensors.torch import load_file
want, got = (load_file(p)["logits"].float() for p in sys.argv[1:3])
relative = ((got[:, -want.shape[1]:] - want).norm() / want.norm()).item()
print(f"relative {relative:.3g}")
sys.exit(relative > float(sys.argv[3]))
END
		echo "ok    $model $label, read back: $(grep -o 'relative [0-9.e+-]*' "$dir.log" | tail -n 1)"; passed=$((passed + 1))
	else
		echo "FAIL  $model $label, read back"; tail -n 8 "$dir.log" 2>/dev/null; fails=$((fails + 1))
	fi
	rm -rf "$dir"
}
read_back gptq 0.02 --format gptq --preset W4A16 --set down=W8A16_g128 --set last.qkv=BF16
read_back gptq-v2-asym 0.02 --format gptq_v2 --preset W4A16_ASYM
read_back awq 0.02 --format awq --preset W4A16_ASYM --set first=BF16
read_back auto-round 0.02 --format auto_round --preset W4A16
if [ -x "$gptq/bin/python" ]; then
	export TORCHDYNAMO_DISABLE=1 # compiling would take longer than what is computed
	one tiny-exaone4 gptq 0.03 "$gptq" "" --format gptq --preset W4A16
	one tiny-exaone4 auto-round 0.03 "$gptq" "" --format auto_round --preset W4A16
	# GPTQModel 5.6 corrects the zero points of v1 files as if all linears had the bits of most: mixtures are v2
	cases=
	made() { # label, backend, dtype, then plan options
		local dir=$work/$1 backend=$2 dtype=$3; shift 3
		"$bin" export "$shared/models/tiny-exaone4" -q -o "$dir" "$@" >/dev/null &&
			"$old/bin/python" "$top/tests/interop/expect.py" "$dir" "$shared/models/tiny-exaone4" "$dir.expect" bfloat16 >/dev/null && cases="$cases $dir:$dir.expect:$backend:$dtype"
	}
	if made gptq-v2-mixed TORCH bfloat16 --format gptq_v2 --preset W4A16_ASYM --set down=W8A16_g128 --set last.qkv=BF16 && made gptq-v1 TORCH bfloat16 --format gptq --preset W8A16_g128 &&
		made awq TORCH_AWQ float16 --format awq --preset W4A16_ASYM && "$gptq/bin/python" "$top/tests/interop/gptqmodel_load.py" 0.03 $cases >"$work/load.log" 2>&1; then
		grep '^ok ' "$work/load.log"; passed=$((passed + 3))
	else
		grep '^ok \|^FAIL' "$work/load.log"; echo "FAIL  exports in GPTQModel"; tail -n 5 "$work/load.log"; fails=$((fails + 1))
	fi
	unset TORCHDYNAMO_DISABLE
else
	echo "skip  gptq, awq and auto-round in their clients, which cannot be installed: $no_gptq"; skipped=$((skipped + 1))
fi
one tiny-exaone4 nf4-dq 0.03 "$bnb" "" --format bitsandbytes --preset NF4_DQ
one tiny-exaone4 nf4 0.03 "$bnb" "" --format bitsandbytes --preset NF4 --set first=BF16
if [ -x "$bnb/bin/python" ]; then
	for scheme in FP4 FP4_DQ; do
		"$bin" export "$shared/models/tiny-exaone4" -q -o "$work/$scheme" --format bitsandbytes --preset $scheme >/dev/null
		if "$bnb/bin/python" "$top/tests/interop/bnb_fp4.py" "$work/$scheme" "$shared/models/tiny-exaone4" >"$work/fp4.log" 2>&1; then
			echo "ok    $scheme as bitsandbytes makes it: $(tail -n 1 "$work/fp4.log")"; passed=$((passed + 1))
		else
			echo "FAIL  $scheme as bitsandbytes makes it"; tail -n 3 "$work/fp4.log"; fails=$((fails + 1))
		fi
		rm -rf "${work:?}/$scheme"
	done
fi
one tiny-exaone4 int8 0.05 "$bnb" "" --format bitsandbytes --preset LLM_INT8
one tiny-exaone4 fp8-block 0.02 "$old" "" --preset FP8_BLOCK
one tiny-exaone4 nvfp4a16 0.03 "$new" "" --preset NVFP4A16
one tiny-exaone4 mxfp4a16 0.03 "$new" "" --preset MXFP4A16
if [ -x "$new/bin/python" ]; then
	"$bin" export "$shared/models/tiny-exaone4" -q -o "$work/mxfp8" --preset MXFP8A16 --ignore-rules >/dev/null
	if "$old/bin/python" "$top/tests/interop/expect.py" "$work/mxfp8" "$shared/models/tiny-exaone4" "$work/mxfp8.expect" bfloat16 >"$work/mxfp8.log" 2>&1 &&
		"$new/bin/python" "$top/tests/interop/mxfp8.py" "$work/mxfp8" "$shared/models/tiny-exaone4" "$work/mxfp8.expect" >"$work/mxfp8.log" 2>&1; then
		echo "ok    mxfp8 as compressed-tensors makes and loads it: $(tail -n 1 "$work/mxfp8.log")"; passed=$((passed + 1))
	else
		echo "FAIL  mxfp8 as compressed-tensors makes and loads it"; tail -n 3 "$work/mxfp8.log"; fails=$((fails + 1))
	fi
fi
for model in tiny-exaone4 hybrid-exaone4; do
	one $model w8a8 0.02 "$old" "" --preset W8A8
	one $model w8a16 0.001 "$old" "" --preset W8A16
	one $model w4a16-g128 0.001 "$old" "" --preset W4A16
	one $model w4a16-channel 0.001 "$old" "" --preset W4A16_channel
	one $model w4a16-asym 0.001 "$new" "" --preset W4A16_ASYM
	one $model fp8-dynamic 0.02 "$old" "" --preset FP8_DYNAMIC
	one $model mixed 0.02 "$old" "--decompress" --preset W8A8 --set 're:.*(gate|up)_proj$=W4A16' --set first=BF16
	one $model same-format 0.001 "$old" "" --preset W8A16 --set down=W4A16_g64 --set last.qkv=BF16
done
# text: the ids of the `tokenizers` that came with the newer client, the templates of its Jinja2
for python in "$new/bin/python" "$old/bin/python"; do
	"$python" -c 'import tokenizers, jinja2' 2>/dev/null || continue
	"$python" "$top/tests/tools/tokenizer_cases.py" compare "$bin" && passed=$((passed + 1)) || fails=$((fails + 1))
	"$python" -W ignore "$top/tests/tools/chat_cases.py" check && passed=$((passed + 1)) || fails=$((fails + 1))
	break
done
echo "$passed passed, $fails failed, $skipped skipped"
[ $fails = 0 ]

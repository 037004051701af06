# SPDX-License-Identifier: Apache-2.0
# For the scripts beside this one: runs a rule on the tree, then proves with trees broken on purpose that it can fail.
# rule NAME; then per sabotage: a fresh tree in $tree, changed by the caller, and `must_say TEXT`; at the end `finish`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree
bad=0

fresh() {
	rm -rf "$tree"
	for d in core/base core/model core/plugin core/backend kernels/gemm plugins/methods/rtn plugins/methods/gptq tui themes tests/rules .ci; do
		mkdir -p "$tree/$d"
	done
	cp "$here/allow_matrix.txt" "$tree/tests/rules/"
	printf '/* SPDX-License-Identifier: Apache-2.0 */\n#include <stdio.h>\n' >"$tree/core/base/ok.c"
}

rule() {
	name=$1
	echo "== $name on the tree"
	python3 "$here/check.py" "$name" "$top" || bad=1
	fresh
	if ! python3 "$here/check.py" "$name" "$tree" >"$scratch/out"; then
		echo "the untouched sabotage tree already fails:"
		cat "$scratch/out"
		bad=1
	fi
}

must_say() {
	if python3 "$here/check.py" "$name" "$tree" >"$scratch/out" 2>&1; then
		echo "sabotage not noticed: $1"
		bad=1
	elif ! grep -qF -- "$1" "$scratch/out"; then
		echo "sabotage noticed, but not as: $1"
		cat "$scratch/out"
		bad=1
	else
		echo "sabotage noticed: $1"
	fi
	fresh
}

finish() { exit "$bad"; }

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The demonstration: the workbench on a copy of the bundled model or, without a terminal, the same job from open to a
# verified submit.zip by commands. Argument: the build folder.
set -eu
export LC_ALL="${LC_ALL:-${LANG:-C.UTF-8}}"

here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:-$here/build}" && pwd)
demo=$build/demo
model=$demo/tiny-exaone4
program=$build/bitlathe

mkdir -p "$demo"
if [ ! -e "$model" ]; then # a copy, so that nothing tried in the demo touches the tests' model
	cp -r "$here/tests/models/tiny-exaone4" "$model.copying"
	mv "$model.copying" "$model"
fi

if [ -t 0 ] && [ -t 1 ]; then
	cd "$demo"
	exec "$program" tiny-exaone4
fi

cd "$demo"
rm -f plan.json submit.zip
say() { printf '\n== %s\n' "$*"; }

say "open: bitlathe inspect tiny-exaone4"
"$program" inspect tiny-exaone4

say "plan: attention in W8A8, feed-forward in W4A16"
"$program" plan tiny-exaone4 --set 're:.*self_attn.*=W8A8' --set 're:.*mlp.*=W4A16' -o plan.json

say "export: bitlathe export plan.json -o submit.zip"
"$program" export plan.json -o submit.zip

say "verify: bitlathe verify submit.zip --base tiny-exaone4"
"$program" verify submit.zip --base tiny-exaone4

before=$(du -b -c "$model"/*.safetensors | tail -n 1 | cut -f 1)
after=$(stat -c %s submit.zip)
say "summary"
echo "model      $model ($before bytes of weights)"
echo "plan       $demo/plan.json"
echo "submit.zip $demo/submit.zip ($after bytes, sha256 $(sha256sum submit.zip | cut -c 1-16)...), verified"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The picture in the README is the golden screen that the tests make, and every command line in its tour runs.
set -eu
cd "$BL_SOURCE_DIR"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^<!-- screen: /,/^<!-- end of screen -->/p' README.md | sed '1,2d' | sed '$d' | sed '$d' >"$work/picture"
golden=$(sed -n 's/^<!-- screen: \(.*\) -->/\1/p' README.md)
diff "$golden" "$work/picture" || { echo "README.md: the picture is not $golden"; exit 1; }
grep -E '^build/bitlathe (inspect|stats|plan|check|export|verify|diff|snapshot) ' README.md | sed "s|build/bitlathe|$BL_BIN|; s|tests/models|$BL_SOURCE_DIR/tests/models|g" >"$work/tour"
[ -s "$work/tour" ] || { echo "README.md: no tour found"; exit 1; }
cd "$work"
while read -r line; do
	sh -c "$line" >out 2>&1 </dev/null || { echo "README.md: does not run: $line"; cat out; exit 1; }
done <tour

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Files stay short enough to be read: a warning above 600 lines, failure above 900.
. "$(dirname "$0")/lib_rule.sh"
rule sizes
seq 901 >"$tree/core/base/long.c"
must_say 'core/base/long.c:901: 901 lines'
seq 1000 >"$tree/tests/rules/long.py"
must_say 'tests/rules/long.py:1000: 1000 lines'
seq 601 >"$tree/core/base/longish.c"
if python3 "$here/check.py" sizes "$tree" | grep -q 'warning: core/base/longish.c: 601 lines'; then
	echo "warning given: 601 lines"
else
	echo "no warning at 601 lines"
	bad=1
fi
finish

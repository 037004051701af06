#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Core neither prints nor ends the program.
. "$(dirname "$0")/lib_rule.sh"
rule silent_core
printf 'int f(void)\n{\n\tprintf("x");\n}\n' >"$tree/core/base/a.c"
must_say 'core/base/a.c:3: printf: core neither prints'
printf '\tfprintf(stderr, "x");\n' >"$tree/core/model/a.c"
must_say 'core/model/a.c:1: stderr'
printf '\tif (x)\n\t\texit(1);\n' >"$tree/core/model/a.c"
must_say 'core/model/a.c:2: exit'
# what only looks like it
printf '/* printf( */ int g(int n)\n{\n\tsnprintf(b, n, "exit(1)");\n\tp->exit(1);\n}\n' >"$tree/core/base/a.c"
if ! python3 "$here/check.py" silent_core "$tree"; then
	echo "false alarm"
	bad=1
fi
finish

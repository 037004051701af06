#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The arrows of the layout hold in every #include (allow_matrix.txt).
. "$(dirname "$0")/lib_rule.sh"
rule includes
line() { # file, include line: put on line 3
	printf '/* x\n */\n%s\n' "$2" >"$tree/$1"
}
line core/base/a.c '#include "core/model/model.h"'
must_say 'core/base/a.c:3: core/base may not include core/model/model.h'
line core/model/a.c '  #  include <tui/app.h>'
must_say 'core/model/a.c:3: core/model may not include tui/app.h'
line core/base/a.c '#include "err.h"'
must_say 'core/base/a.c:3: "err.h": includes are full paths'
line tui/a.c '#include "core/backend/backend.h"'
must_say 'tui/a.c:3: tui may not include core/backend/backend.h'
line tui/a.c '#include "kernels/gemm/gemm.h"'
must_say 'tui/a.c:3: tui may not include kernels/gemm/gemm.h'
line kernels/gemm/gemm.cu '#include "core/base/half.h"'
must_say 'kernels/gemm/gemm.cu:3: kernels may not include core/base/half.h'
line plugins/methods/rtn/a.c '#include "plugins/methods/gptq/b.h"'
must_say 'plugins/methods/rtn/a.c:3: plugins may not include plugins/methods/gptq/b.h'
line plugins/methods/rtn/a.c '#include "core/plugin/registry.h"'
must_say 'plugins/methods/rtn/a.c:3: plugins may not include core/plugin/registry.h'
line plugins/methods/rtn/a.c '#include <cjson/cJSON.h>'
must_say 'plugins/methods/rtn/a.c:3: <cjson/cJSON.h> is not among the system headers'
line core/plugin/plugin_api.h '#include "core/plugin/registry.h"'
must_say 'core/plugin/plugin_api.h:3: core/plugin/plugin_api.h may not include core/plugin/registry.h'
mkdir -p "$tree/core/fresh"
line core/fresh/a.c ''
must_say 'core/fresh/a.c:1: belongs to no part'
echo 'only <curses.h>: tui/term.c' >>"$tree/tests/rules/allow_matrix.txt"
line tui/a.c '#include <curses.h>'
must_say 'tui/a.c:3: <curses.h> may be included only by tui/term.c'
finish

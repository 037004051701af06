#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every source file says its licence at the top.
. "$(dirname "$0")/lib_rule.sh"
rule spdx
echo 'int x;' >"$tree/core/base/a.c"
must_say 'core/base/a.c:1: the line'
printf '\n\n\n/* SPDX-License-Identifier: Apache-2.0 */\n' >"$tree/tui/a.h"
must_say 'tui/a.h:1: the line'
echo 'project(x)' >"$tree/CMakeLists.txt"
must_say 'CMakeLists.txt:1: the line'
finish

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Nothing names the place where it was written.
. "$(dirname "$0")/lib_rule.sh"
rule words
place="/wo""rk/main"
printf '\nsee %s\n' "$place" >"$tree/README.md"
must_say "README.md:2: names a place"
printf '/* %s */\n' "$place" >"$tree/core/base/a.c"
must_say "core/base/a.c:1: names a place"
printf 'cd %s\n' "$place" >"$tree/.ci/run"
must_say ".ci/run:1: names a place"
finish

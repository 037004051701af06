#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The names at the top of the tree are fixed.
. "$(dirname "$0")/lib_rule.sh"
rule top_level
mkdir "$tree/docs"
must_say 'docs:1: is not among'
touch "$tree/NOTES.md"
must_say 'NOTES.md:1: is not among'
finish

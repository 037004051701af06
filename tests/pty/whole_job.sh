#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job by keyboard: open, filter, schemes by pattern, undo, snapshots, compare, save, export to a zip, verify it.
. "$(dirname "$0")/lib_tmux.sh"

start 100x30
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'

keys f
type_text 'down'
see '8 units' # as one types
keys Enter
see '8 of 32 units'
keys f
keys C-u Enter
gone '8 of 32 units'

keys =
type_text 're:.*self_attn.*=W8A8'
keys Enter
see '16 units changed'
keys :
type_text 'snapshot attention'
keys Enter
see '‹attention›'
keys =
type_text 're:.*mlp.*=W4A16'
keys Enter
see '16 units changed'
keys u
see 'undone'
keys C-r
see 'done again'
keys S
see 'attention'
keys n
type_text 'both'
keys Enter
see 'both'
keys j
see '16 units differ'
keys q
gone '16 units differ'

keys w
see 'plan saved as'
gone '*'
export_and_prove
keys J
see 'verify submit.zip'
see 'done'
keys q
keys Q
see 'left-0'
python3 - "$work/submit.zip" 2>/dev/null <<'PY' || unzip -l "$work/submit.zip" 2>/dev/null | grep -q 'model/config.json' || grep -aq 'model/config.json' "$work/submit.zip" || fail "no model/config.json in the zip"
import sys, zipfile
sys.exit(0 if "model/config.json" in zipfile.ZipFile(sys.argv[1]).namelist() else 1)
PY

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The checkpoint is cut short under the running workbench: an error on screen, not a dead process and not a broken terminal.
. "$(dirname "$0")/lib_tmux.sh"

start 80x24
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
see '0.637' # its statistics are there
: >"$work/tiny-exaone4/model.safetensors"
keys G 8 # solving needs the bytes again
sleep 0.5
see 'mixed*'
keys j k
see ' 7 down'
keys x Enter
sleep 0.5
see 'size '
keys Q
see '(y/n)'
keys y
see 'left-0'

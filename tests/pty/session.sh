#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A sitting at a terminal: look, choose by pattern, undo, resize in the middle of a prompt, suspend and resume, leave. The shell's
# screen is back afterwards.
. "$(dirname "$0")/lib_tmux.sh"

start 80x24
run "echo before-$((40 + 2)); '$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
gone 'before-42' # its own screen
see 'legal'
keys j 8
see 'W8A8'
see 'mixed*'
keys u
gone 'mixed*'

# by pattern, through the command line, with completion
keys ':'
type_text 'set re:.*mlp.*=W4A1'
see '16 units'
keys Tab
keys Enter
see '16 units changed'

# resizing while a prompt is open neither loses the text nor the screen
keys ':'
type_text 'snapshot fir'
tmux -L "$socket" resize-window -x 100 -y 30
see ':snapshot fir'
tmux -L "$socket" resize-window -x 30 -y 8
see 'fir'
tmux -L "$socket" resize-window -x 80 -y 24
type_text 'st'
keys Enter
see 'snapshot first saved'
see '‹first›'

# torn and foreign sequences are not keys: a lone report, a paste outside a prompt
keys -H 1b 5b 38 3b 32 34 3b 38 30 74
keys -H 1b 5b 32 30 30 7e 51 64 64 1b 5b 32 30 31 7e
sleep 0.3
see '‹first›'

keys C-z
see 'Stopped'
gone '8 blocks, 32 units'
run 'fg; echo ended-$?'
see '8 blocks, 32 units'
see '‹first›'

# the row goes to the clipboard of the terminal: tmux takes it like any other
tmux -L "$socket" set -g set-clipboard on
keys g g y
see 'copied'
n=0
until tmux -L "$socket" show-buffer 2>/dev/null | grep -q qkv; do
	n=$((n + 1))
	[ $n -gt 50 ] && fail "nothing arrived in the clipboard"
	sleep 0.1
done

keys '?'
see 'Keys and commands of: Layers'
keys q
gone 'Keys and commands of'
keys Q
see '(y/n)'
keys y
see 'ended-0'
see 'before-42' # the shell's screen is back
gone '8 blocks, 32 units'
run 'stty -a >modes; echo checked-$((1 + 1))'
see 'checked-2'
for mode in icanon echo isig icrnl opost; do
	grep -qE "(^| )$mode( |;|\$)" "$work/modes" || fail "the terminal's mode $mode is not back"
done

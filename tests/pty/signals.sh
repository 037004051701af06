#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# However the process ends, the terminal is usable afterwards, and an edited plan is there again at the next start.
. "$(dirname "$0")/lib_tmux.sh"

pid_of() { ps -t "$(tmux -L "$socket" display -p '#{pane_tty}')" -o pid=,comm= | awk -v n="$(basename "$BL_BIN" | cut -c 1-15)" '$2 == n { print $1 }'; }

for sig in TERM:143 INT:130 HUP:143 SEGV:139 ABRT:134 SEGV:139:vt100; do
	term=${sig#*:*:}
	[ "$term" = "$sig" ] && term=tmux-256color # vt100 has no second screen
	sig=${sig%":$term"}
	start 80x24 TERM="$term"
	run "'$BL_BIN' tiny-exaone4; echo left-\$?"
	see '8 blocks, 32 units'
	pid=$(pid_of)
	[ -n "$pid" ] || fail "cannot find the process"
	kill -s "${sig%:*}" "$pid"
	see "left-${sig#*:}"
	gone '8 blocks, 32 units'
	run 'echo typed-$((1 + 1))'
	see 'typed-2'
	screen | grep -q 'echo typed' || fail "SIG${sig%:*}: the terminal does not echo"
done

# a terminal that grew meanwhile: nothing of the screen is left beyond its old size
for leave in Q TERM; do
	start 80x24
	run "'$BL_BIN' tiny-exaone4; echo left-\$?"
	see '8 blocks, 32 units'
	tmux -L "$socket" resize-window -x 120 -y 40
	see 'server ~'
	[ $leave = Q ] && keys Q || kill -s TERM "$(pid_of)"
	see 'left-'
	gone 'gate_up'
done

# an edit survives a kill without warning: autosaved, offered at the next start
start 80x24
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
keys 8
see 'mixed*'
autosaved
kill -s KILL "$(pid_of)"
see 'left-137'
start 80x24
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
see 'W8A8'

# so does one made just before SIGTERM
keys 4
see 'W4A16'
kill -s TERM "$(pid_of)"
see 'left-143'
start 80x24
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
see 'W4A16'
keys 'Q'
see '(y/n)'
keys y
see 'left-0'

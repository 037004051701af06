#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Kinds of terminals: each known one shows the layers and leaves cleanly; an unknown or missing TERM falls back; one that cannot place
# its cursor gets a sentence and exit code 2; without UTF-8 everything is ASCII; NO_COLOR means no colour.
. "$(dirname "$0")/lib_tmux.sh"

for term in xterm xterm-256color tmux-256color screen linux vt100 vt220 ansi rxvt putty nonsense-9000 ''; do
	start 80x24 TERM="$term"
	run "'$BL_BIN' tiny-exaone4; echo left-\$?"
	see '8 blocks, 32 units'
	keys j k G
	see ' 7 down'
	keys G g g 8 u # rows that are full to the margin stay in their places
	see 'undone: 0 qkv: W8A8'
	screen | sed -n 2p | grep -q '^ blk unit ' || fail "TERM=$term: the heading is not in its row"
	screen | sed -n 22p | grep -q '^size 11' || fail "TERM=$term: the totals are not in their row"
	keys Q
	see 'left-0'
	gone '? help' # nothing is left under the prompt, with or without a second screen
done

start 80x24 TERM=dumb
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see 'left-2'
see 'cannot place its cursor'

# no UTF-8: only ASCII is shown
for locale in C POSIX; do
	start 80x24 LC_ALL=$locale
	run "'$BL_BIN' tiny-exaone4; echo left-\$?"
	see '8 blocks, 32 units'
	see 'target L4 . vLLM'
	if screen | LC_ALL=C grep -q '[^ -~]'; then
		fail "LC_ALL=$locale: characters beyond ASCII"
	fi
	keys Q
	see 'left-0'
done

start 80x24 NO_COLOR=1
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
if looks | grep -q "$(printf '\033')\[[0-9;]*[34][0-8]"; then
	fail "NO_COLOR: colours"
fi
keys Q
see 'left-0'

start 80x24
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
looks | grep -q "$(printf '\033')\[[0-9;]*[34][0-8]" || fail "no colours at all"
keys Q
see 'left-0'

# not a terminal
"$BL_BIN" "$work/tiny-exaone4" </dev/null >"$work/out" 2>"$work/err"
[ $? = 2 ] || fail "without a terminal the exit code is not 2"
[ -s "$work/out" ] && fail "without a terminal something is printed on stdout"
grep -q terminal "$work/err" || fail "without a terminal: no sentence"

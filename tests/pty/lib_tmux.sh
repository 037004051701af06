# SPDX-License-Identifier: Apache-2.0
# Drives the program in a terminal of tmux. Sourced by the tests beside it; needs BL_BIN and BL_SOURCE_DIR.
#   start COLSxROWS [VAR=value ...]   a shell in a fresh folder with a copy of the demo model
#   run COMMAND                       types a command line into the shell
#   keys KEY ...                      tmux send-keys
#   see TEXT / gone TEXT              waits (up to 60 s, BL_PTY_WAIT) until the screen shows, or no longer shows, a text
#   export_and_prove                  exports to submit.zip in the folder, then verifies it, from the layers screen
#   autosaved                         waits as long until the state folder holds an unsaved plan
set -u
command -v tmux >/dev/null || { echo "tmux is not installed: skipped"; exit 0; }
[ -x "${BL_BIN:?}" ] || { echo "no program at $BL_BIN"; exit 1; }

work=$(mktemp -d)
socket=bl-$$-0
starts=0
wait_s=${BL_PTY_WAIT:-60}
trap 'tmux -L "$socket" kill-server 2>/dev/null; sleep 0.2; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

start() {
	size=$1
	shift
	mkdir -p "$work/home"
	[ -e "$work/tiny-exaone4" ] || cp -r "$BL_SOURCE_DIR/tests/models/tiny-exaone4" "$work/"
	tmux -L "$socket" kill-server 2>/dev/null
	starts=$((starts + 1))
	socket=bl-$$-$starts # a server that is going away would take the new session with it
	tmux -L "$socket" -f /dev/null new-session -d -x "${size%x*}" -y "${size#*x}" \
		"cd '$work' && env -u NO_COLOR -u COLORTERM HOME='$work/home' XDG_CONFIG_HOME='$work/home/config' XDG_STATE_HOME='$work/home/state' \
		HF_HOME='$work/home/hf' LC_ALL=C.UTF-8 PS1='shell> ' ENV= $* sh"
	see 'shell>'
}

keys() { tmux -L "$socket" send-keys "$@"; }
type_text() { tmux -L "$socket" send-keys -l "$1"; }
run() {
	type_text "$1"
	keys Enter
}
screen() { tmux -L "$socket" capture-pane -p 2>/dev/null; }
looks() { tmux -L "$socket" capture-pane -p -e; }

fail() {
	echo "FAILED: $*"
	screen
	exit 1
}

see() {
	n=0
	until screen | grep -qF -- "$1"; do
		n=$((n + 1))
		[ $n -gt $((wait_s * 10)) ] && fail "the screen does not show: $1"
		sleep 0.1
	done
}

gone() {
	n=0
	while screen | grep -qF -- "$1"; do
		n=$((n + 1))
		[ $n -gt $((wait_s * 10)) ] && fail "the screen still shows: $1"
		sleep 0.1
	done
}

autosaved() {
	n=0
	until find "$work/home/state" -name '*.json' 2>/dev/null | grep -q .; do
		n=$((n + 1))
		[ $n -gt $((wait_s * 10)) ] && fail "no plan was saved automatically"
		sleep 0.1
	done
}

export_and_prove() {
	keys x
	see 'every unit'
	keys Enter
	see 'proved'
	[ -s "$work/submit.zip" ] || fail "there is no submit.zip"
	keys q
	keys V
	type_text 'submit.zip'
	keys Enter
	see 'submit.zip: proved'
}

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The model runs: calibrate by keyboard with the small data, set schemes by pattern, see the true error and the KL appear, snapshot, evaluate, export,
# verify. A second start takes the calibration up again without running anything.
. "$(dirname "$0")/lib_tmux.sh"

start 100x30
cp -r "$BL_SOURCE_DIR/tests/data" "$work/data"
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
see 'w-err dB' # of the weights alone, and it says so

# the form: what the model will see, what it will need
keys c
see 'a adds a file'
keys a
type_text 'data/ta'
keys Tab
see 'data/talk.jsonl'
keys Enter
keys a
type_text 'data/prose.txt'
keys Enter
see '12 rows'
keys j Space
type_text '12'
keys Enter
keys j Space
type_text '64'
keys Enter
see 'will need'
see 'preview'
see '[|user|]'
keys p
see 'window 1 of'
keys q
keys v
see 'dropped'
keys q
keys Enter
see 'calibrate 12×64: done'
see ' err dB'
gone 'w-err dB'
see 'xout'

# thirty units by pattern; error and effect follow
keys =
type_text 're:.*=W4A16'
keys Enter
see '32 units changed'
keys =
type_text '7=BF16'
keys Enter
see 'KL 0.'
gone 'KL ·'
keys Enter # a unit, with what flows in
see 'channels by |x|'
keys q

keys :
type_text 'snapshot four'
keys Enter
see '‹four›'
keys S
see 'four'
keys q

keys :
type_text 'evaluate ppl=data/prose.txt kl=data/prose.txt mcq=data/choices.jsonl seqlen=64 windows=4'
keys Enter
see '(e shows the result)'
keys e
see 'perplexity'
see 'KL to base'
see 'choices right'
keys q

export_and_prove
keys w
see 'plan saved as'
keys Q
see 'left-0'

# what is stored is taken up at the next start, with its numbers, and the form remembers its values
run "'$BL_BIN' tiny-exaone4; echo left-\$?"
see '8 blocks, 32 units'
see ' err dB'
see 'xout'
keys c
see 'data/prose.txt'
see 'stored already'
keys q
gone 'stored already'
keys Q
see 'left-0'

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Signals and time limits in the middle of long work: see lib_signals.py.
exec python3 "$BL_SOURCE_DIR/tests/batch/lib_signals.py"

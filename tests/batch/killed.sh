#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Calibrations killed at random moments: see lib_killed.py.
exec python3 "$BL_SOURCE_DIR/tests/batch/lib_killed.py"

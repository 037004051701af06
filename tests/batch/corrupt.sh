#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the proof must notice: see lib_corrupt.py.
exec python3 "$BL_SOURCE_DIR/tests/batch/lib_corrupt.py"

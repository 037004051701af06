#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fault injection through the program: see lib_faults.py.
exec python3 "$BL_SOURCE_DIR/tests/batch/lib_faults.py"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The command line, through the declarative tests of this folder.
exec python3 "$BL_SOURCE_DIR/tests/batch/lib_run.py"

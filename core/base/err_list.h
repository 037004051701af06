/* SPDX-License-Identifier: Apache-2.0
 * The one list of outcomes. Row: name, process exit code, default sentence.
 * Exit codes are the contract of the command line (README, "Exit codes"). */
/* clang-format off */
BL_ERR(OK,            0, "done")
BL_ERR(FAILED,        1, "failed")
BL_ERR(IO,            1, "input or output failed")
BL_ERR(USAGE,         2, "wrong usage")
BL_ERR(NOT_FOUND,     3, "not found")
BL_ERR(INVALID,       3, "the input is invalid")
BL_ERR(UNSUPPORTED,   3, "not supported")
BL_ERR(RULE,          4, "the plan breaks a rule of the serving target")
BL_ERR(MISMATCH,      5, "verification found a mismatch")
BL_ERR(NO_MEMORY,     6, "not enough memory")
BL_ERR(NO_SPACE,      6, "not enough disk space")
BL_ERR(NO_DEVICE,     7, "device lost or not available")
BL_ERR(TIMEOUT,     124, "time limit reached")
BL_ERR(CANCELLED,   130, "interrupted")
BL_ERR(TERMINATED,  143, "terminated")
/* clang-format on */

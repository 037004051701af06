/* SPDX-License-Identifier: Apache-2.0
 * BL_COMMAND(id, name, arguments, least, most, sentence). Each is a function bl_cmd_<id> in a file of this folder. */
/* clang-format off */
BL_COMMAND(workbench, "workbench", "[MODEL or PLAN]",   0, 1, "The workbench; what starts without a command.")
BL_COMMAND(inspect,   "inspect",   "MODEL",             1, 1, "Architecture, units, tensors, sizes, problems; reads nothing but headers.")
BL_COMMAND(stats,     "stats",     "MODEL",             1, 1, "Weight ranges of every unit.")
BL_COMMAND(plan,      "plan",      "MODEL or PLAN",     1, 1, "Make or change a plan; print sizes, estimates, legality.")
BL_COMMAND(check,     "check",     "PLAN",              1, 1, "Only the rules of the serving target.")
BL_COMMAND(evaluate,  "evaluate",  "MODEL or PLAN",     1, 16, "Measure: perplexity, distance to the base model, multiple choice.")
BL_COMMAND(export,    "export",    "PLAN",              1, 1, "Write, read back, prove, rename into place.")
BL_COMMAND(verify,    "verify",    "DIR or FILE.zip",   1, 1, "The same proof for any checkpoint, whoever wrote it.")
BL_COMMAND(diff,      "diff",      "A B",               2, 2, "Two plans, snapshots (PLAN@NAME) or checkpoints, unit by unit.")
BL_COMMAND(snapshot,  "snapshot",  "VERB PLAN [NAME [NEW]]", 1, 4, "Named states of a plan: save, list, restore, rename, drop.")
BL_COMMAND(bench,     "bench",     "[NAME...]",         0, 16, "Measure, with the baseline of the same run and the ratio to it.")
BL_COMMAND(doctor,    "doctor",    "",                  0, 0, "What this machine offers and what is missing.")
BL_COMMAND(plugins,   "plugins",   "",                  0, 0, "Methods and export formats.")
BL_COMMAND(themes,    "themes",    "",                  0, 0, "Themes.")
BL_COMMAND(targets,   "targets",   "",                  0, 0, "Serving targets.")
BL_COMMAND(schemes,   "schemes",   "",                  0, 0, "Schemes and the keys that choose them.")
BL_COMMAND(help,      "help",      "[COMMAND]",         0, 1, "Help on a command.")
/* clang-format on */

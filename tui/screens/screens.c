/* SPDX-License-Identifier: Apache-2.0
 * Every screen of the workbench. A new one is one line here. */
#include "tui/screens/screens.h"

const struct bl_screen *const bl_screens[] = {
	&bl_screen_welcome, &bl_screen_layers, &bl_screen_unit,    &bl_screen_snapshots, &bl_screen_export,
	&bl_screen_problems, &bl_screen_config, &bl_screen_jobs,   &bl_screen_log,       &bl_screen_help,
	&bl_screen_calibrate, &bl_screen_evaluate, &bl_screen_methods, &bl_screen_parameters, &bl_screen_budget, NULL,
};

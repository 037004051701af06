/* SPDX-License-Identifier: Apache-2.0
 * Ranges of inputs as static activations need them: those of the calibration in use, else of the newest stored one. */
#include <math.h>

#include "core/base/mem.h"
#include "core/session/run.h"

float *bl_session_input_absmax(struct bl_session *s)
{
	struct bl_err none = BL_ERR_INIT; /* no calibration is an answer */
	bool needed = false, known = false;

	for (int i = 0; i < s->model->n_units; i++)
		needed |= bl_act_is_static(bl_plan_choice(s->plan, i)->scheme.act);
	if (!needed)
		return NULL;
	if (!bl_session_calib(s))
		(void)bl_session_adopt_calib(s, NULL, &none);
	float *out = bl_xalloc((size_t)s->model->n_units + 1, sizeof *out);
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_input_stats *in = bl_session_input(s, i);
		out[i] = in ? in->nonfinite ? NAN : in->absmax : NAN;
		known |= in != NULL;
	}
	if (known)
		return out;
	bl_free(out);
	return NULL;
}

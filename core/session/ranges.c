/* SPDX-License-Identifier: Apache-2.0
 * Ranges of inputs as static activations need them: those of the calibration in use, else of the newest stored one. */
#include <math.h>

#include "core/base/mem.h"
#include "core/session/live.h"

void bl_session_use_ranges(struct bl_session *s, float *absmax)
{
	bl_free(s->priv->ranges);
	s->priv->ranges = absmax;
}

float bl_session_unit_absmax(const struct bl_session *s, int unit)
{
	return bl_live_absmax(s->priv->live, unit, bl_plan_choice(s->plan, unit), false);
}

float *bl_session_input_absmax(struct bl_session *s)
{
	struct bl_err none = BL_ERR_INIT; /* no calibration is an answer */
	bool needed = false;

	for (int i = 0; i < s->model->n_units; i++)
		needed |= bl_act_is_static(bl_plan_choice(s->plan, i)->scheme.act);
	if (!needed)
		return NULL;
	if (!s->priv->ranges && !bl_session_calib(s))
		(void)bl_session_adopt_calib(s, NULL, &none);
	if (!s->priv->ranges && !bl_session_calib(s))
		return NULL;
	float *out = bl_xalloc((size_t)s->model->n_units + 1, sizeof *out);
	for (int i = 0; i < s->model->n_units; i++) {
		out[i] = bl_session_unit_absmax(s, i);
	}
	return out;
}

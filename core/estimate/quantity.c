/* SPDX-License-Identifier: Apache-2.0 */
#include "core/estimate/quantity.h"

const char *bl_origin_name(enum bl_origin o)
{
	static const char *const names[] = {"unknown", "modelled", "measured"};

	return names[o];
}

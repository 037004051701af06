/* SPDX-License-Identifier: Apache-2.0
 * What follows from a fold without another run: Hessians and ranges are those that a calibration of the folded model finds, the checkpoint's forward with the
 * folded weights as replacements computes what the folded model computes, the numbers on disk are taken up or made anew, nothing depends on threads. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"

static struct ground ground;

static double hessian_difference(struct bl_fold *f, struct bl_calib *c, struct bl_calib *again, int unit)
{
	const int64_t k = bl_fold_model(f)->units[unit].cols;
	const float *h, *want;
	struct bl_err err = BL_ERR_INIT;
	double d = 0, all = 0;
	float *own;

	assert_int_equal(bl_fold_hessian(f, c, unit, &h, &own, &err), BL_OK);
	assert_int_equal(own != NULL, bl_fold_changes_input(f, unit));
	assert_int_equal(bl_calib_hessian(again, unit, &want, &err), BL_OK);
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++) {
			/* relative to the channels' own sizes: factors differ by orders of magnitude */
			double scale = sqrt((double)want[i * k + i] * want[j * k + j]) + 1e-30;
			d = fmax(d, fabs((double)h[i * k + j] - want[i * k + j]) / scale);
			all += scale;
		}
	assert_true(all > 0);
	bl_free(own);
	return d;
}

static void inputs_follow(void **state)
{
	static const struct { const char *family, *stages; double most; bool ranges; } rows[] = {
		{ "exaone4", "smooth:alpha=0.8", 1e-5, true }, /* powers of two: the same bits in another scale */
		{ "exaone4", "smooth;permute", 0.02, true },
		{ "exaone4", "permute;smooth:pow2=false;rotate", 0.1, false },
		{ "llama", "smooth:pairs=all;permute", 0.1, true },
		{ "gemma3_text", "smooth:pairs=norms", 0.1, true },
		{ "qwen2", "smooth:alpha=0.8;rotate", 0.1, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct toy t;

		toy_make(&t, rows[i].family);
		t.bf16 = true;
		const struct bl_model *m = toy_open(&t);
		struct bl_calib *c = calibration(&ground, m);
		struct bl_fold *f = fold_of(&ground, m, c, rows[i].stages);
		struct bl_calib *again = calibration(&ground, bl_fold_model(f));
		for (int u = 0; u < m->n_units; u++) {
			double d = hessian_difference(f, c, again, u);
			float absmax = bl_fold_absmax(f, c, u), want = bl_calib_stats(again, u)->absmax;
			if (d > rows[i].most)
				fail_msg("%s, %s: the Hessian of %s differs by %.3g", rows[i].family, rows[i].stages, m->units[u].name, d);
			if (!rows[i].ranges && m->units[u].kind == BL_UNIT_O)
				assert_true(isnan(absmax)); /* turned heads: not known without looking */
			else if (!(fabsf(absmax - want) <= 0.03f * want))
				fail_msg("%s, %s: largest input of %s is %g, not %g", rows[i].family, rows[i].stages, m->units[u].name, (double)want, (double)absmax);
		}
		bl_calib_free(again);
		bl_fold_unref(f);
		bl_calib_free(c);
		toy_free(&t);
	}
}

static void replacements(void **state)
{
	static const char *const families[] = { "exaone4", "qwen2", "gemma2" };

	(void)state;
	for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
		struct toy t;

		toy_make(&t, families[i]);
		const struct bl_model *m = toy_open(&t);
		struct bl_calib *c = calibration(&ground, m);
		struct bl_fold *f = fold_of(&ground, m, c, "smooth:pairs=all,alpha=0.8,pow2=false;permute;rotate");
		struct bl_weight_set set = { .of = bl_xalloc((size_t)m->n_units, sizeof *set.of), .n = m->n_units, .small = bl_fold_changes_small(f) ? bl_fold_model(f) : NULL };
		assert_int_equal(set.small != NULL, i > 0); /* biases, norms */
		for (int u = 0; u < m->n_units; u++) {
			const struct bl_unit *from = &bl_fold_model(f)->units[u];
			int64_t at = 0;

			if (!bl_fold_changes(f, u))
				continue;
			set.of[u] = bl_unit_weights_new(u, BL_WEIGHTS_DENSE, from->rows, from->cols);
			for (int k = 0; k < from->n_members; k++)
				for (int64_t e = 0; e < from->members[k].weight->n_elems; e++)
					set.of[u]->dense[at++] = bl_f32_bf16(((const float *)from->members[k].weight->data)[e]);
		}
		float *a = logits(&ground, m, &set, false), *b = logits(&ground, bl_fold_model(f), NULL, false), *plain = logits(&ground, m, NULL, false);
		assert_memory_equal(a, b, SEQUENCES * TOKENS * VOCAB * sizeof *a);
		assert_true(worst(a, plain) > 0);
		assert_true(worst(a, plain) < 0.05);
		for (int u = 0; u < m->n_units; u++)
			bl_unit_weights_unref(set.of[u]);
		bl_free(set.of);
		bl_free(a);
		bl_free(b);
		bl_free(plain);
		bl_fold_unref(f);
		bl_calib_free(c);
		toy_free(&t);
	}
}

/* Sum of all bytes of a folded model. */
static uint64_t sum_of(const struct bl_fold *f)
{
	const struct bl_model *m = bl_fold_model(f);
	uint64_t sum = 0;

	for (int64_t i = 0; i < m->n_tensors; i++)
		for (uint64_t k = 0; k < m->tensors[i]->bytes; k++)
			sum = sum * 1099511628211u + ((const uint8_t *)m->tensors[i]->data)[k];
	return sum;
}

static void kept_numbers(void **state)
{
	static const char stages[] = "smooth:search=channel;awq:group=16;permute";
	struct bl_err err = BL_ERR_INIT;
	struct bl_str path = { 0 };
	struct toy t;
	char *text;
	size_t n;

	(void)state;
	toy_make(&t, "exaone4");
	const struct bl_model *m = toy_open(&t);
	struct bl_calib *c = calibration(&ground, m);
	struct bl_fold *f = fold_of(&ground, m, c, stages);
	uint64_t sum = sum_of(f);
	bl_str_addf(&path, "%s/folds/%s.bin", ground.cache, bl_fold_model(f)->digest);
	bl_fold_unref(f);
	for (int k = 0; k < 4; k++) { /* as it is, a byte changed, cut short, gone */
		assert_int_equal(bl_read_file(&text, &n, bl_str_c(&path), 1 << 24, false, &err), BL_OK);
		if (k == 1)
			text[n / 2] ^= 1;
		if (k && k < 3)
			assert_int_equal(bl_write_file(bl_str_c(&path), text, k == 2 ? n - 5 : n, 0644, &err), BL_OK);
		if (k == 3)
			remove(bl_str_c(&path));
		bl_free(text);
		f = fold_of(&ground, m, c, stages);
		assert_int_equal(sum_of(f), sum);
		bl_fold_unref(f);
	}
	struct bl_pool *one = bl_pool_new(1);
	struct bl_fold_request rq = { .model = m, .stages = stages, .calib = c, .pool = one };
	assert_int_equal(bl_fold_new(&f, &rq, &err), BL_OK);
	assert_int_equal(sum_of(f), sum);
	bl_fold_unref(f);
	bl_pool_free(one);
	rq.pool = ground.pool;
	rq.calib = NULL;
	assert_int_equal(bl_fold_new(&f, &rq, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "calibrate first"));
	bl_str_free(&path);
	bl_calib_free(c);
	toy_free(&t);
}

/* Outlier channels that were moved from a reader to its maker are found and moved back: smoothing is the same whatever the factors were. */
static void outliers_return(void **state)
{
	struct toy t;
	float *up, *down;
	double spread[2];

	(void)state;
	for (int k = 0; k < 2; k++) {
		toy_make(&t, "exaone4");
		up = toy_find(&t, 1, "mlp.up_proj.weight");
		down = toy_find(&t, 1, "mlp.down_proj.weight");
		for (int i = 0; i < HIDDEN; i++) {
			up[5 * HIDDEN + i] *= 256;
			down[i * FFN + 5] /= 256;
		}
		const struct bl_model *m = toy_open(&t);
		struct bl_calib *c = calibration(&ground, m);
		struct bl_fold *f = fold_of(&ground, m, c, k ? "smooth:pairs=updown" : "permute:pairs=vo");
		int unit = BL_UNIT_KIND_COUNT + BL_UNIT_DOWN;
		const struct bl_input_stats *in = bl_calib_stats(c, unit);
		float v[FFN];
		double mean[FFN], rms[FFN], sum = 0, most = 0;

		memcpy(v, in->channel_absmax, sizeof v);
		memcpy(mean, in->channel_mean, sizeof mean);
		memcpy(rms, in->channel_rms, sizeof rms);
		assert_true(bl_fold_channels(f, unit, v, mean, rms));
		for (int i = 0; i < FFN; i++) {
			sum += (double)v[i] / FFN;
			most = fmax(most, (double)v[i]);
		}
		spread[k] = most / sum;
		bl_fold_unref(f);
		bl_calib_free(c);
		toy_free(&t);
	}
	print_message("largest channel over the mean one: %.3g, smoothed %.3g\n", spread[0], spread[1]);
	assert_true(spread[0] > 10);
	assert_true(spread[1] < 6);
}

static int setup(void **state)
{
	(void)state;
	ground_open(&ground);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ground_close(&ground);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(inputs_follow), cmocka_unit_test(replacements), cmocka_unit_test(kept_numbers), cmocka_unit_test(outliers_return) };

	return cmocka_run_group_tests(tests, setup, teardown);
}

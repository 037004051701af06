/* SPDX-License-Identifier: Apache-2.0
 * The calibration store: its numbers against sums in double, damaged and hostile files, keys, sizes, the cache. */
#include "store_support.h"

/* --- numbers --- */

struct seen { int units; double absmax[4096]; };

static void see(void *ctx, int unit, const struct bl_input_stats *s)
{
	struct seen *x = ctx;

	assert_int_equal(unit, x->units);
	x->absmax[x->units++] = (double)s->absmax;
}

static void check_unit(const struct bl_calib *c, int u, const uint16_t *x, int64_t tokens)
{
	const struct bl_input_stats *s = bl_calib_stats(c, u);
	int64_t k = model->units[u].cols;
	uint16_t *in = bl_xalloc((size_t)(tokens * k), 2);
	double *v = bl_xalloc((size_t)(tokens * k), sizeof *v), trace = 0, all = 0, total = 0;
	uint64_t elements = 0, rows = 0;
	struct bl_err err = BL_ERR_INIT;
	const float *h;

	for (int64_t t = 0; t < tokens; t++)
		fake_input(model, u, x + t * model->config.hidden, in + t * k);
	for (int64_t i = 0; i < tokens * k; i++) {
		v[i] = (double)bl_bf16_f32(in[i]);
		all += v[i] * v[i];
		total += v[i];
	}
	assert_int_equal(bl_calib_hessian(c, u, &h, &err), BL_OK);
	for (int64_t i = 0; i < k; i++) {
		double most = 0, sum = 0, sum2 = 0;

		for (int64_t t = 0; t < tokens; t++) {
			most = fabs(v[t * k + i]) > most ? fabs(v[t * k + i]) : most;
			sum += v[t * k + i];
			sum2 += v[t * k + i] * v[t * k + i];
		}
		assert_true((double)s->channel_absmax[i] == most);
		assert_true(fabs(s->channel_mean[i] - sum / (double)tokens) <= 1e-6 * (1 + most));
		assert_true(fabs(s->channel_rms[i] - sqrt(sum2 / (double)tokens)) <= 1e-6 * (1 + most));
		trace += (double)h[i * k + i];
		for (int64_t j = 0; j < k; j += j < i ? (i - j > 5 ? 5 : 1) : 1) { /* the lower triangle in steps, all above it */
			double want = 0;

			for (int64_t t = 0; j <= i && t < tokens; t++)
				want += v[t * k + i] * v[t * k + j];
			if (!(fabs((double)h[i * k + j] - want) <= 1e-5 * sqrt(sum2) * sqrt(all / (double)k) * 40 * (j <= i)))
				fail_msg("unit %d: H[%d,%d] is %g, not %g", u, (int)i, (int)j, (double)h[i * k + j], want);
		}
	}
	assert_true(fabs(trace / all - 1) < 1e-5); /* tr(H) = |X|^2 */
	assert_true(fabs(s->rms / sqrt(all / (double)(tokens * k)) - 1) < 1e-6);
	assert_true(fabs(s->mean - total / (double)(tokens * k)) < 1e-6);
	for (int i = 0; i < BK_INPUT_BINS; i++) {
		elements += s->bins[i];
		rows += s->token_bins[i];
	}
	assert_int_equal(elements + s->nonfinite, tokens * k);
	assert_int_equal(rows, tokens);
	assert_int_equal(s->tokens, tokens);
	bl_free(in);
	bl_free(v);
}

static void numbers(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_calib *c = NULL;
	struct bl_pass *p;
	static struct seen seen;
	int64_t start[WINDOWS + 1], h = model->config.hidden;
	struct bl_sequences seq = { ids, start, WINDOWS };

	(void)state;
	seen.units = 0;
	if (bl_calib_run(&c, &forward, &data, at("a"), &options, NULL, see, &seen, &err))
		fail_msg("%s", err.text);
	assert_int_equal(seen.units, model->n_units);
	assert_int_equal(bl_calib_tokens(c), WINDOWS * LEN);
	assert_true(bl_calib_has_hessians(c));
	assert_int_equal(bl_calib_kept_windows(c), 3);
	assert_memory_equal(bl_calib_ids(c), ids, WINDOWS * LEN * 4);
	for (int i = 0; i <= WINDOWS; i++)
		start[i] = i * LEN;
	assert_int_equal(bl_pass_new(&p, &forward, &seq, &err), BL_OK);
	bl_pass_embed(p, &err);
	for (int b = 0; b <= model->config.layers; b++) {
		const uint16_t *kept;

		assert_int_equal(bl_calib_block_input(c, b, &kept, &err), BL_OK);
		assert_memory_equal(kept, p->x, (size_t)(3 * LEN * h * 2));
		if (b == model->config.layers)
			break;
		for (int u = 4 * b; u < 4 * b + 4; u++) {
			if (b < 2)
				check_unit(c, u, p->x, WINDOWS * LEN);
			assert_true(seen.absmax[u] == (double)bl_calib_stats(c, u)->absmax);
			assert_true(bl_calib_stats(c, u)->absmax > 0);
		}
		assert_int_equal(bl_pass_block(p, b, NULL, NULL, &err), BL_OK);
	}
	/* channel 3 of the hidden state is forty times the others: found wherever it flows */
	assert_true(bl_calib_stats(c, 0)->n_outlier_channels > 0);
	assert_int_equal((bl_calib_stats(c, 0)->outlier[0].channel * 7 + 0) % h, 3);
	bl_pass_free(p);
	assert_int_equal(bl_calib_settle(c, &err), BL_OK);
	bl_calib_free(c);
}

static void non_finite(void **state)
{
	struct calib_acc a = calib_acc_of(4);
	uint8_t *s = bl_xalloc(1, a.bytes);
	float absmax[4] = { 1, 2, 30, 4 };
	double sum2[4] = { 4, 4, 0.5, 4 };
	uint64_t one = 1;
	struct bl_input_stats st;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	memcpy(s, absmax, sizeof absmax);
	memcpy(s + a.sum2, sum2, sizeof sum2);
	memcpy(s + a.nonfinite, &one, 8);
	assert_int_equal(calib_stats_make(&st, s, 4, 4, "x", &err), BL_OK);
	assert_int_equal(st.nonfinite, 1);
	assert_true(fabs(st.rms - sqrt(12.5 / 15)) < 1e-12);
	assert_int_equal(st.n_outlier_channels, 1);
	assert_int_equal(st.outlier[0].channel, 2);
	calib_stats_free(&st);
	one = 17; /* more than there are elements */
	memcpy(s + a.nonfinite, &one, 8);
	assert_int_equal(calib_stats_make(&st, s, 4, 4, "x", &err), BL_MISMATCH);
	bl_free(s);
}

/* Every outlier channel is counted, the sixteen largest are named in order. */
static void many_outliers(void **state)
{
	enum { K = 4096 };
	struct calib_acc a = calib_acc_of(K);
	uint8_t *s = bl_xalloc(1, a.bytes);
	float *absmax = (float *)(void *)s;
	struct bl_input_stats st;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	for (int i = 0; i < 40; i++)
		absmax[100 * i + 7] = (float)(100 + (i * 17) % 40);
	((double *)(void *)(s + a.sum2))[5] = 100;
	assert_int_equal(calib_stats_make(&st, s, K, 1, "x", &err), BL_OK);
	assert_int_equal(st.n_outlier_channels, 40);
	for (int i = 0; i < 16; i++) {
		assert_true(st.outlier[i].absmax == (float)(139 - i));
		assert_true(absmax[st.outlier[i].channel] == st.outlier[i].absmax);
	}
	calib_stats_free(&st);
	bl_free(s);
}

/* --- damage --- */

static void damaged(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_calib *c;
	struct calib_shape shape;
	struct calib_head h;
	const float *hessian;
	const uint16_t *x;
	char key[65];

	(void)state;
	run_ok("whole");
	run_ok("x");
	bl_calib_key(key, model, &data, &options);
	calib_shape_of(&shape, model, &data, &options);
	calib_head_make(&h, &shape, CALIB_BLOCK, 2);
	/* a Hessian: found when it is used, and only that one */
	flip(file_of("x", "block_0002.bin"), h.section[5].offset + 4096 * 3 + 17);
	c = open_ok("x");
	assert_int_equal(bl_calib_hessian(c, 8, &hessian, &err), BL_OK);
	assert_int_equal(bl_calib_hessian(c, 9, &hessian, &err), BL_MISMATCH);
	assert_non_null(strstr(err.text, "block_0002.bin"));
	bl_calib_free(c);
	forward.blocks_run = 0;
	run_ok("x");
	assert_int_equal(forward.blocks_run, 3); /* up to the damaged one */
	same_bytes("whole", "x");
	/* statistics: found when it is opened */
	flip(file_of("x", "block_0006.bin"), h.section[1].offset + 5);
	bl_err_clear(&err);
	assert_int_equal(bl_calib_open(&c, model, at("x"), key, &err), BL_MISMATCH);
	assert_non_null(strstr(err.text, "block_0006.bin"));
	/* a head, a short file, one of another block, none */
	flip(file_of("x", "block_0001.bin"), 20);
	assert_int_equal(truncate(file_of("x", "block_0003.bin"), 5000), 0);
	assert_int_equal(unlink(file_of("x", "block_0004.bin")), 0);
	assert_int_equal(link(file_of("x", "block_0005.bin"), file_of("x", "block_0004.bin")), 0);
	assert_int_equal(unlink(file_of("x", "inputs_0003.bin")), 0);
	flip(file_of("x", "ids.bin"), 4100);
	run_ok("x");
	same_bytes("whole", "x");
	/* kept inputs: when they are used */
	flip(file_of("x", "inputs_0004.bin"), 4096 + 99);
	c = open_ok("x");
	bl_err_clear(&err);
	assert_int_equal(bl_calib_block_input(c, 4, &x, &err), BL_MISMATCH);
	assert_non_null(strstr(err.text, "inputs_0004.bin"));
	bl_err_clear(&err);
	assert_int_equal(bl_calib_block_input(c, 5, &x, &err), BL_OK);
	bl_calib_free(c);
}

static void hostile_manifest(void **state)
{
	static const char *const bad[] = {
		"", "{}", "[]", "{\"kind\":\"calibration\",\"producer\":1}", "nonsense",
		"{\"kind\":\"calibration\",\"producer\":1,\"key\":\"../../../etc\",\"complete\":true,\"device\":\"\",\"model\":{\"title\":\"\",\"digest\":\"\",\"blocks\":1,"
		"\"hidden\":1},\"data\":{\"ids\":\"\",\"windows\":1,\"window\":1},\"collected\":{\"hessians\":true,\"keep_windows\":0,\"fp32\":false},\"files\":[]}",
		"{\"kind\":\"calibration\",\"producer\":1,\"key\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"complete\":true,\"device\":\"\","
		"\"model\":{\"title\":\"\",\"digest\":\"\",\"blocks\":99999999,\"hidden\":1},\"data\":{\"ids\":\"\",\"windows\":1,\"window\":1},"
		"\"collected\":{\"hessians\":true,\"keep_windows\":0,\"fp32\":false},\"files\":[]}",
	};
	struct bl_calib *c = NULL;
	char key[65];

	(void)state;
	run_ok("whole");
	run_ok("m");
	bl_calib_key(key, model, &data, &options);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_err err = BL_ERR_INIT;

		assert_int_equal(bl_write_file(file_of("m", "manifest.json"), bad[i], strlen(bad[i]), 0644, &err), BL_OK);
		assert_true(bl_calib_open(&c, model, at("m"), key, &err) != BL_OK);
		assert_true(err.text[0]);
	}
	forward.blocks_run = 0;
	run_ok("m"); /* the files prove themselves: only the manifest is made anew */
	assert_int_equal(forward.blocks_run, 0);
	same_bytes("whole", "m");
	{
		struct bl_err err = BL_ERR_INIT;

		assert_int_equal(bl_calib_open(&c, model, at("m"), "../../x", &err), BL_INVALID);
		bl_err_clear(&err);
		key[0] = key[0] == '0' ? '1' : '0';
		assert_int_equal(bl_calib_open(&c, model, at("m"), key, &err), BL_NOT_FOUND);
	}
}

/* --- keys, sizes, the cache --- */

static void keys(void **state)
{
	struct bl_calib_options o = options;
	struct bl_calib_data d = data;
	int32_t other[WINDOWS * LEN];
	char key[65], was[65];

	(void)state;
	bl_calib_key(was, model, &data, &options);
#define DIFFERS(...)                                        \
	do {                                                \
		o = options;                                \
		d = data;                                   \
		__VA_ARGS__;                                \
		bl_calib_key(key, model, &d, &o);           \
		assert_string_not_equal(key, was);          \
	} while (0)
	DIFFERS(o.hessians = false);
	DIFFERS(o.keep_windows = 2);
	DIFFERS(o.device = "another");
	DIFFERS(o.fp32 = true);
	DIFFERS(d.windows--);
	DIFFERS(d.windows *= 2; d.len /= 2);
	memcpy(other, ids, sizeof ids);
	other[WINDOWS * LEN - 1] ^= 1;
	DIFFERS(d.ids = other);
#undef DIFFERS
	o = options;
	o.cancel = NULL;
	d = data;
	d.digest = "told otherwise";
	bl_calib_key(key, model, &d, &o);
	assert_string_equal(key, was);
}

static void sizes(void **state)
{
	struct bl_cache_entry *e;
	size_t n;
	uint64_t said = bl_calib_disk_bytes(model, &data, &options), least, best, host;

	(void)state;
	run_ok("s");
	bl_cache_list(&e, &n, at("s"));
	assert_int_equal(n, 1);
	assert_string_equal(e[0].kind, "calib");
	assert_string_equal(e[0].model, model->title);
	assert_true(e[0].complete);
	assert_true(e[0].wall_s > 0);
	assert_true(e[0].bytes <= said && e[0].bytes > said / 10 * 8);
	bl_cache_free(e, n);
	bl_calib_need(model, &options, &least, &best, &host);
	assert_true(least > 0 && best == 2 * least && host > 0);
}

static void cache(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_cache_entry *e;
	size_t n;
	char key[65], found[65], prefix[3] = "";
	int lock;

	(void)state;
	bl_cache_list(&e, &n, at("nowhere"));
	assert_int_equal(n, 0);
	bl_cache_free(e, n);
	assert_int_equal(bl_calib_find(found, model, at("c"), &err), BL_NOT_FOUND);
	run_ok("c");
	bl_calib_key(key, model, &data, &options);
	options.hessians = false;
	run_ok("c");
	options.hessians = true;
	bl_err_clear(&err);
	assert_int_equal(bl_calib_find(found, model, at("c"), &err), BL_OK);
	bl_cache_list(&e, &n, at("c"));
	assert_int_equal(n, 2);
	bl_cache_free(e, n);
	assert_int_equal(bl_cache_drop(at("c"), "", false, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(bl_cache_drop(at("c"), "..", false, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	lock = calib_lock(file_of("c", ""), &err); /* somebody works on it */
	assert_true(lock >= 0);
	assert_int_equal(bl_cache_drop(at("c"), key, false, &err), BL_FAILED);
	bl_err_clear(&err);
	assert_int_equal(run("c", &err), BL_FAILED);
	close(lock);
	bl_err_clear(&err);
	assert_int_equal(bl_cache_drop(at("c"), key, true, &err), BL_OK); /* a look: it stays */
	assert_int_equal(bl_cache_drop(at("c"), key, false, &err), BL_OK);
	assert_false(bl_is_dir(file_of("c", "")));
	bl_cache_list(&e, &n, at("c"));
	assert_int_equal(n, 1);
	memcpy(prefix, e[0].key, 2);
	bl_cache_free(e, n);
	assert_int_equal(bl_cache_drop(at("c"), prefix, false, &err), BL_OK);
	bl_cache_list(&e, &n, at("c"));
	assert_int_equal(n, 0);
	bl_cache_free(e, n);
}

static void refused(void **state)
{
	struct bl_calib_data d = data;
	struct bl_calib *c = NULL;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	d.windows = 0;
	assert_int_equal(bl_calib_run(&c, &forward, &d, at("r"), &options, NULL, NULL, NULL, &err), BL_INVALID);
	bl_err_clear(&err);
	options.fp32 = true; /* and kept inputs */
	assert_int_equal(run("r", &err), BL_INVALID);
	bl_err_clear(&err);
	options.keep_windows = 0; /* the forward is not */
	assert_int_equal(run("r", &err), BL_INVALID);
	assert_non_null(strstr(err.text, "float32"));
}

/* A large Hessian: several pieces, rows longer than a page, holes above the triangle. */
static void holes(void **state)
{
	struct calib_section s = { .kind = CALIB_HESSIAN, .rows = 3000, .row_bytes = 12000 };
	int64_t bytes = 0, last = -1;

	(void)state;
	assert_int_equal(calib_piece_rows(&s), CALIB_PIECE / 12000);
	assert_int_equal(calib_pieces(&s), 3);
	for (struct calib_run r = { 0 }; calib_next_run(&s, 0, s.rows, &r);) {
		assert_true(r.at > last);
		last = r.at + r.bytes - 1;
		assert_true(r.bytes > 0 && last < s.rows * s.row_bytes);
		bytes += r.bytes;
	}
	assert_true(bytes >= 3000 * 3001 / 2 * 4 && bytes < 3000 * 12000 * 3 / 4);
	for (int64_t i = 0; i < s.rows; i++)
		assert_true(calib_hessian_row(i, s.row_bytes) >= 4 * (i + 1) && calib_hessian_row(i, s.row_bytes) <= s.row_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = { T(numbers), T(non_finite), T(many_outliers), T(damaged), T(hostile_manifest), T(keys), T(sizes), T(cache), T(refused),
					    T(holes) };

	return run_all(tests, sizeof tests / sizeof tests[0]);
}

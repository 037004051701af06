/* SPDX-License-Identifier: Apache-2.0
 * Which changes of weights leave a post-norm decoder with normed heads, grouped queries, rotary embedding and a tied head as it is: each is made by hand on a
 * random model and the logits of our own forward are compared. What is exact stays within rounding; what looks alike and is not, breaks visibly. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/transform/stages.h"

#define EXACT 1e-4  /* float32 all the way, three blocks */
#define BROKEN 3e-3

static struct ground ground;
static struct bl_rng rng;
static double factors[256];

static void draw(int n, double least, double most)
{
	for (int i = 0; i < n; i++)
		factors[i] = least + (most - least) * (double)bl_rng_unit(&rng);
}

static void rows_by(float *w, int64_t rows, int64_t cols, bool inverse)
{
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++)
			w[i * cols + j] = (float)(inverse ? w[i * cols + j] / factors[i] : w[i * cols + j] * factors[i]);
}

static void cols_by(float *w, int64_t rows, int64_t cols, bool inverse)
{
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++)
			w[i * cols + j] = (float)(inverse ? w[i * cols + j] / factors[j] : w[i * cols + j] * factors[j]);
}

static void gate_down(struct toy *t)
{
	draw(FFN, .2, 3.2);
	rows_by(toy_find(t, 1, "mlp.gate_proj.weight"), FFN, HIDDEN, true);
	cols_by(toy_find(t, 1, "mlp.down_proj.weight"), HIDDEN, FFN, false);
}

static void q_head(struct toy *t)
{
	draw(HEADS, .5, 2.5);
	for (int i = HEADS * HEAD_DIM - 1; i >= 0; i--)
		factors[i] = factors[i / HEAD_DIM];
	rows_by(toy_find(t, 1, "self_attn.q_proj.weight"), HEADS * HEAD_DIM, HIDDEN, false);
}

static void q_rows(struct toy *t)
{
	draw(HEADS * HEAD_DIM, .5, 2.5);
	rows_by(toy_find(t, 1, "self_attn.q_proj.weight"), HEADS * HEAD_DIM, HIDDEN, false);
}

static void head_norms(struct toy *t, bool paired)
{
	draw(HEAD_DIM, .3, 2.3);
	for (int i = 0; paired && i < HEAD_DIM / 2; i++)
		factors[i + HEAD_DIM / 2] = factors[i];
	rows_by(toy_find(t, 1, "self_attn.q_norm.weight"), HEAD_DIM, 1, false);
	rows_by(toy_find(t, 1, "self_attn.k_norm.weight"), HEAD_DIM, 1, true);
}

static void head_norms_paired(struct toy *t) { head_norms(t, true); }
static void head_norms_free(struct toy *t) { head_norms(t, false); }

static void o_scalar(struct toy *t)
{
	float *o = toy_find(t, 1, "self_attn.o_proj.weight");

	for (int i = 0; i < HIDDEN * HEADS * HEAD_DIM; i++)
		o[i] *= 3.7f;
}

static void o_rows(struct toy *t)
{
	draw(HIDDEN, .5, 1.5);
	rows_by(toy_find(t, 1, "self_attn.o_proj.weight"), HIDDEN, HEADS * HEAD_DIM, false);
	rows_by(toy_find(t, 1, "post_attention_layernorm.weight"), HIDDEN, 1, true);
}

static void norm_into_o(struct toy *t)
{
	float *norm = toy_find(t, 1, "post_attention_layernorm.weight");

	for (int i = 0; i < HIDDEN; i++) {
		factors[i] = norm[i];
		norm[i] = 1;
	}
	rows_by(toy_find(t, 1, "self_attn.o_proj.weight"), HIDDEN, HEADS * HEAD_DIM, false);
}

/* What would smooth the inputs of gate and up in a model that has its norm before them. */
static void norm_into_gate_up(struct toy *t)
{
	draw(HIDDEN, .5, 1.5);
	rows_by(toy_find(t, 1, "post_attention_layernorm.weight"), HIDDEN, 1, true);
	cols_by(toy_find(t, 1, "mlp.gate_proj.weight"), FFN, HIDDEN, false);
	cols_by(toy_find(t, 1, "mlp.up_proj.weight"), FFN, HIDDEN, false);
}

static void readers(struct toy *t, void (*change)(float *w, int64_t rows))
{
	for (int b = 0; b < LAYERS; b++) {
		change(toy_find(t, b, "self_attn.q_proj.weight"), HEADS * HEAD_DIM);
		change(toy_find(t, b, "self_attn.k_proj.weight"), KV_HEADS * HEAD_DIM);
		change(toy_find(t, b, "self_attn.v_proj.weight"), KV_HEADS * HEAD_DIM);
		change(toy_find(t, b, "mlp.gate_proj.weight"), FFN);
		change(toy_find(t, b, "mlp.up_proj.weight"), FFN);
	}
}

static void by_factors(float *w, int64_t rows) { cols_by(w, rows, HIDDEN, false); }

static void residual_signs(struct toy *t)
{
	draw(HIDDEN, -1, 1);
	for (int i = 0; i < HIDDEN; i++)
		factors[i] = factors[i] < 0 ? -1 : 1;
	readers(t, by_factors);
	for (int b = 0; b < LAYERS; b++) {
		rows_by(toy_find(t, b, "post_attention_layernorm.weight"), HIDDEN, 1, false);
		rows_by(toy_find(t, b, "post_feedforward_layernorm.weight"), HIDDEN, 1, false);
	}
	cols_by(toy_find(t, -1, "model.embed_tokens.weight"), VOCAB, HIDDEN, false);
}

static void residual_scale(struct toy *t)
{
	draw(HIDDEN, .5, 2);
	readers(t, by_factors);
	for (int b = 0; b < LAYERS; b++) {
		rows_by(toy_find(t, b, "post_attention_layernorm.weight"), HIDDEN, 1, true);
		rows_by(toy_find(t, b, "post_feedforward_layernorm.weight"), HIDDEN, 1, true);
	}
	cols_by(toy_find(t, -1, "model.embed_tokens.weight"), VOCAB, HIDDEN, true);
	for (int k = 0; k < 2; k++)
		rows_by(toy_find(t, -1, "model.norm.weight"), HIDDEN, 1, false);
}

static void turned(float *w, int64_t rows)
{
	for (int64_t i = 0; i < rows; i++) {
		float was[HIDDEN];

		memcpy(was, w + i * HIDDEN, sizeof was);
		for (int j = 0; j < HIDDEN; j++)
			w[i * HIDDEN + j] = was[(j * 5 + 7) % HIDDEN];
	}
}

static void residual_order(struct toy *t)
{
	readers(t, turned);
	turned(toy_find(t, -1, "model.embed_tokens.weight"), VOCAB);
	turned(toy_find(t, -1, "model.norm.weight"), 1);
	for (int b = 0; b < LAYERS; b++) {
		static const char *const writers[2] = { "self_attn.o_proj.weight", "mlp.down_proj.weight" };

		turned(toy_find(t, b, "post_attention_layernorm.weight"), 1);
		turned(toy_find(t, b, "post_feedforward_layernorm.weight"), 1);
		for (int k = 0; k < 2; k++) {
			const size_t row = k ? FFN : HEADS * HEAD_DIM;
			float *w = toy_find(t, b, writers[k]), *was = bl_xalloc(HIDDEN * row, sizeof *was);

			memcpy(was, w, HIDDEN * row * sizeof *w);
			for (size_t i = 0; i < HIDDEN; i++)
				memcpy(w + i * row, was + (i * 5 + 7) % HIDDEN * row, row * sizeof *w);
			bl_free(was);
		}
	}
}

static void by_hand(void **state)
{
	static const struct { const char *what; void (*change)(struct toy *t); bool exact; } rows[] = {
		{ "gate and down, channel by channel", gate_down, false },
		{ "a factor per query head", q_head, true },
		{ "rows of q, channel by channel", q_rows, false },
		{ "norms of q and k, equal within rotary pairs", head_norms_paired, true },
		{ "norms of q and k, channel by channel", head_norms_free, false },
		{ "one factor on o", o_scalar, true },
		{ "rows of o, inverse in the norm behind", o_rows, false },
		{ "the norm behind attention into o", norm_into_o, false },
		{ "the norm behind attention into gate and up", norm_into_gate_up, false },
		{ "signs of the residual", residual_signs, true },
		{ "factors of the residual", residual_scale, false },
		{ "order of the residual", residual_order, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct toy t;

		toy_make(&t, "exaone4");
		float *before = logits(&ground, toy_open(&t), NULL, true);
		rows[i].change(&t);
		float *after = logits(&ground, toy_open(&t), NULL, true);
		double d = worst(after, before);
		print_message("%-48s %.2e\n", rows[i].what, d);
		if (rows[i].exact ? d > EXACT : d < BROKEN)
			fail_msg("%s: %s, but differs by %.2e", rows[i].what, rows[i].exact ? "is exact" : "is not exact", d);
		bl_free(before);
		bl_free(after);
		toy_free(&t);
	}
}

/* ---- what a plan can ask for ---- */

static void by_stages(void **state)
{
	static const char *const families[] = { "exaone4", "llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2" };
	static const struct { const char *text; bool norms; } rows[] = {
		{ "smooth:alpha=0.7,pow2=false", false },
		{ "smooth:pairs=vo", false },
		{ "smooth:pairs=updown,search=channel,activations=tensor", false },
		{ "smooth:search=channel,pow2=false", false },
		{ "awq:group=16,pairs=vo+updown", false },
		{ "rotate", false },
		{ "permute", false },
		{ "permute:by=absmax;smooth:alpha=0.3,pow2=false;permute;rotate", false },
		{ "smooth:pairs=norm_qkv,pow2=false", true },
		{ "smooth:pairs=all,pow2=false;awq:group=0,bits=3,error=diagonal;permute", true },
	};

	(void)state;
	for (size_t k = 0; k < sizeof families / sizeof *families; k++) {
		struct toy t;

		toy_make(&t, families[k]);
		const struct bl_model *m = toy_open(&t);
		float *before = logits(&ground, m, NULL, true);
		struct bl_calib *c = calibration(&ground, m);
		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
			if (rows[i].norms && m->arch->norms == BL_NORM_POST && !strstr(rows[i].text, "all"))
				continue;
			struct bl_fold *f = fold_of(&ground, m, c, rows[i].text);
			float *after = logits(&ground, bl_fold_model(f), NULL, true);
			double d = worst(after, before);
			if (!(d < EXACT))
				fail_msg("%s, %s: differs by %.2e", families[k], rows[i].text, d);
			bl_free(after);
			bl_fold_unref(f);
		}
		bl_calib_free(c);
		bl_free(before);
		toy_free(&t);
	}
}

static void refused(void **state)
{
	static const struct { const char *family, *text; enum bl_status status; const char *says; } rows[] = {
		{ "exaone4", "smooth:pairs=norm_qkv", BL_UNSUPPORTED, "residual stream" },
		{ "exaone4", "smooth:pairs=norms", BL_UNSUPPORTED, "residual stream" },
		{ "exaone4", "smooth:pairs=gate_down", BL_UNSUPPORTED, "act(g)" },
		{ "exaone4", "smooth:pairs=o_norm", BL_UNSUPPORTED, "divides" },
		{ "llama", "smooth:pairs=down_norm", BL_UNSUPPORTED, "divides" },
		{ "llama", "smooth:pairs=qk", BL_UNSUPPORTED, "rotary" },
		{ "olmo2", "awq:pairs=norm_gate_up", BL_UNSUPPORTED, "residual stream" },
		{ "exaone4", "rotate:pairs=updown", BL_UNSUPPORTED, "gate multiplies" },
		{ "llama", "rotate:pairs=norm_qkv", BL_UNSUPPORTED, "other readers" },
		{ "llama", "permute:pairs=norm_gate_up", BL_UNSUPPORTED, "other readers" },
		{ "llama", "turn", BL_USAGE, "no such transform" },
		{ "llama", "smooth:alpha=2", BL_USAGE, "alpha" },
		{ "llama", "smooth:beta=2", BL_USAGE, "beta" },
		{ "llama", "", BL_OK, NULL },
		{ "llama", "smooth:alpha=0.5;permute:by=energy", BL_OK, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_str text = { 0 };
		struct toy t;

		toy_make(&t, rows[i].family);
		assert_int_equal(bl_stages_canonical(&text, toy_open(&t), rows[i].text, &err), rows[i].status);
		if (rows[i].says && !strstr(err.text, rows[i].says))
			fail_msg("%s: says \"%s\"", rows[i].text, err.text);
		if (!rows[i].says && *rows[i].text)
			assert_string_equal(bl_str_c(&text), "smooth;permute"); /* defaults are not written */
		bl_str_free(&text);
		toy_free(&t);
	}
}

static int setup(void **state)
{
	(void)state;
	bl_rng_seed(&rng, 7);
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
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_hand), cmocka_unit_test(by_stages), cmocka_unit_test(refused) };

	return cmocka_run_group_tests(tests, setup, teardown);
}

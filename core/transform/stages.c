/* SPDX-License-Identifier: Apache-2.0
 * The table of transforms, and stages as text. */
#include "core/transform/stages.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

#define PAIRS_CHOICES "vo+updown|vo|updown|norm_qkv|norm_gate_up|norms|all|gate_down|o_norm|down_norm|qk"
#define PAIRS_ROW {"pairs", BL_PARAM_CHOICE, "vo+updown", 0, 0, PAIRS_CHOICES, "Between which linears factors move; what is not exact in the family is refused."}
#define POW2_ROW(fallback) \
	{"pow2", BL_PARAM_BOOL, fallback, 0, 1, NULL, "Factors are powers of two: the fold then loses no bit of the stored weights."}

static const struct bl_param smooth_rows[] = {
	{"alpha", BL_PARAM_REAL, "0.5", 0, 1, NULL, "How much of the difficulty moves from inputs (1: all of it) to weights."},
	{"search", BL_PARAM_CHOICE, "none", 0, 0, "none|alpha|channel", "Look for the factors that lose least: alpha of each pair, or channel by channel."},
	{"bits", BL_PARAM_INT, "8", 2, 8, NULL, "Bits of the weights that a search has in mind."},
	{"group", BL_PARAM_INT, "0", 0, 65536, NULL, "Columns that share a scale there; 0: a scale per row."},
	{"activations", BL_PARAM_CHOICE, "token", 0, 0, "token|tensor|none", "How inputs are rounded there: a scale per token, one for all, not at all."},
	PAIRS_ROW,
	POW2_ROW("true"),
};
static const struct bl_param awq_rows[] = {
	{"bits", BL_PARAM_INT, "4", 2, 8, NULL, "Bits of the weights that the search has in mind."},
	{"group", BL_PARAM_INT, "128", 0, 65536, NULL, "Columns that share a scale there; 0: a scale per row."},
	{"grid", BL_PARAM_INT, "20", 2, 200, NULL, "Candidates between no scaling and scaling by the inputs alone."},
	{"error", BL_PARAM_CHOICE, "hessian", 0, 0, "hessian|diagonal", "How a candidate is judged: by the output error, or by the inputs' energies alone (quick)."},
	{"rows", BL_PARAM_INT, "64", 16, 65536, NULL, "Rows of the linear that are looked at, evenly spread."},
	PAIRS_ROW,
	POW2_ROW("false"),
};
static const struct bl_param rotate_rows[] = {
	{"pairs", BL_PARAM_CHOICE, "vo", 0, 0, "vo|updown|norm_qkv|norm_gate_up", "Only the channels inside a key-value head can be mixed exactly."},
};
static const struct bl_param permute_rows[] = {
	{"pairs", BL_PARAM_CHOICE, "vo+updown", 0, 0, "vo+updown|vo|updown|norm_qkv|norm_gate_up", "Which channels are put in order."},
	{"by", BL_PARAM_CHOICE, "energy", 0, 0, "energy|absmax", "Descending mean square of the inputs, or descending largest input."},
};

#define ROWS(r) r, (int)(sizeof r / sizeof r[0])
static const struct bl_transform transforms[] = {
	{BL_TRANSFORM_SMOOTH, "smooth", "SmoothQuant: evens out the channels of inputs, at the cost of the weights that read them.", ROWS(smooth_rows), true},
	{BL_TRANSFORM_AWQ, "awq", "AWQ: enlarges the columns that matter before they are rounded, by a search over the output error.", ROWS(awq_rows), true},
	{BL_TRANSFORM_ROTATE, "rotate", "Hadamard rotation inside each key-value head (R2): spreads outliers over the head's channels.", ROWS(rotate_rows), false},
	{BL_TRANSFORM_PERMUTE, "permute", "Puts channels in order of importance, so that groups hold what is alike: activation order at no cost.", ROWS(permute_rows), true},
};
#define N_TRANSFORMS ((int)(sizeof transforms / sizeof transforms[0]))

const struct bl_transform *bl_transform_at(int i)
{
	return i >= 0 && i < N_TRANSFORMS ? &transforms[i] : NULL;
}

const struct bl_transform *bl_transform_find(const char *name)
{
	for (int i = 0; i < N_TRANSFORMS; i++)
		if (!strcmp(transforms[i].name, name))
			return &transforms[i];
	return NULL;
}

const struct bl_param *bl_transform_params(const char *name, int *n)
{
	const struct bl_transform *t = bl_transform_find(name);

	*n = t ? t->n_params : 0;
	return t ? t->params : NULL;
}

static int row_of(const struct bl_transform *t, const char *name)
{
	for (int i = 0; i < t->n_params; i++)
		if (!strcmp(t->params[i].name, name))
			return i;
	return -1;
}

double bl_stage_value(const struct bl_stage *s, const char *name)
{
	int row = row_of(s->transform, name);

	return row < 0 ? 0 : s->v[row];
}

/* Number i of "a|b|c" into word. */
static void choice_word(char word[64], const char *choices, int i)
{
	while (i-- > 0 && *choices)
		choices += strcspn(choices, "|") + 1;
	snprintf(word, 64, "%.*s", (int)strcspn(choices, "|"), choices);
}

static unsigned pairs_of(const char *word)
{
	unsigned pairs = 0;

	if (!strcmp(word, "norms"))
		return 1u << BL_FOLD_NORM_QKV | 1u << BL_FOLD_NORM_GATE_UP;
	if (!strcmp(word, "all"))
		return (1u << BL_FOLD_LEGAL) - 1;
	while (*word) {
		size_t n = strcspn(word, "+");

		for (int p = 0; p < BL_FOLD_PAIR_COUNT; p++) {
			const char *name = bl_fold_pair_name((enum bl_fold_pair)p);
			if (strlen(name) == n && !strncmp(name, word, n))
				pairs |= 1u << p;
		}
		word += n + (word[n] == '+');
	}
	return pairs;
}

static enum bl_status judge_pairs(struct bl_stage *s, const struct bl_model *m, struct bl_err *err)
{
	const struct bl_transform *t = s->transform;
	const int row = row_of(t, "pairs");
	char word[64];

	choice_word(word, t->params[row].choices, (int)s->v[row]);
	s->pairs = pairs_of(word);
	for (int p = 0; p < BL_FOLD_PAIR_COUNT; p++) {
		const char *why = s->pairs >> p & 1 ? bl_arch_fold_refused(m->arch, (enum bl_fold_pair)p) : NULL;

		if (!strcmp(word, "all") && why) {
			s->pairs &= ~(1u << p); /* all that are exact */
			continue;
		}
		if (why)
			return bl_fail(err, BL_UNSUPPORTED, "%s over %s is not exact for %s: %s", t->name, bl_fold_pair_name((enum bl_fold_pair)p), m->arch->model_type, why);
		if (s->pairs >> p & 1 && p >= BL_FOLD_NORM_QKV && (t->kind == BL_TRANSFORM_ROTATE || t->kind == BL_TRANSFORM_PERMUTE))
			return bl_fail(err, BL_UNSUPPORTED, "%s over %s is not exact: other readers of the residual stream would see other channels", t->name,
				       bl_fold_pair_name((enum bl_fold_pair)p));
	}
	if (t->kind == BL_TRANSFORM_ROTATE && s->pairs >> BL_FOLD_UP_DOWN & 1)
		return bl_fail(err, BL_UNSUPPORTED, "rotate over updown is not exact: the gate multiplies channel by channel; only a rotation at run time could do it");
	if (t->kind == BL_TRANSFORM_ROTATE && (m->config.head_dim & (m->config.head_dim - 1)))
		return bl_fail(err, BL_UNSUPPORTED, "rotate: heads of %lld channels have no Hadamard matrix of powers of two", (long long)m->config.head_dim);
	return BL_OK;
}

static enum bl_status parse_one(struct bl_stage *s, const struct bl_model *m, const char *text, size_t n, struct bl_err *err)
{
	const size_t name_bytes = strcspn(text, ":;");
	char *name = bl_xstrndup(text, name_bytes), *params = bl_xstrndup(text + name_bytes + (name_bytes < n), n - name_bytes - (name_bytes < n));

	s->transform = bl_transform_find(name);
	if (!s->transform)
		bl_fail(err, BL_USAGE, "stage \"%.40s\": there is no such transform (smooth, awq, rotate, permute)", name);
	else if (bl_params_parse(&s->v, s->transform->params, s->transform->n_params, params, s->transform->name, err) == BL_OK)
		judge_pairs(s, m, err);
	bl_free(name);
	bl_free(params);
	return err->status;
}

enum bl_status bl_stages_parse(struct bl_stages *out, const struct bl_model *m, const char *text, struct bl_err *err)
{
	memset(out, 0, sizeof *out);
	for (const char *at = text; *at && !err->status;) {
		size_t n = strcspn(at, ";");

		if (out->n == BL_STAGES_MAX)
			bl_fail(err, BL_USAGE, "more than %d stages", BL_STAGES_MAX);
		else
			parse_one(&out->at[out->n++], m, at, n, err);
		at += n + (at[n] == ';');
	}
	if (err->status)
		bl_stages_free(out);
	return err->status;
}

void bl_stages_free(struct bl_stages *s)
{
	for (int i = 0; i < s->n; i++)
		bl_free(s->at[i].v);
	memset(s, 0, sizeof *s);
}

enum bl_status bl_stages_canonical(struct bl_str *out, const struct bl_model *m, const char *text, struct bl_err *err)
{
	struct bl_stages s;

	if (bl_stages_parse(&s, m, text, err))
		return err->status;
	for (int i = 0; i < s.n; i++) {
		const struct bl_transform *t = s.at[i].transform;
		char *params = bl_params_text(t->params, t->n_params, s.at[i].v);

		bl_str_addf(out, "%s%s%s%s", i ? ";" : "", t->name, *params ? ":" : "", params);
		bl_free(params);
	}
	bl_stages_free(&s);
	return BL_OK;
}

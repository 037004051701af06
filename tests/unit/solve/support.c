/* SPDX-License-Identifier: Apache-2.0
 * The bundled model, an engine, and what units are compared with. */
#include "tests/unit/solve/support.h"

#include <stdlib.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/base/rng.h"
#include "core/plugin/method_run.h"
#include "core/scheme/codec.h"


static void make_hessian(float *h, int64_t n)
{
	struct bl_rng rng;
	float *x = bl_xalloc((size_t)(4 * n * n), sizeof *x);

	bl_rng_seed(&rng, 7);

	for (int64_t t = 0; t < 4 * n; t++) {
		double common = bl_rng_normal(&rng);
		for (int64_t k = 0; k < n; k++)
			x[t * n + k] = (float)((common * (k % 3) + bl_rng_normal(&rng)) * (k % 41 == 5 ? 10 : 1));
	}
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j <= i; j++) {
			float s = 0;
			for (int64_t t = 0; t < 4 * n; t++)
				s += x[t * n + i] * x[t * n + j];
			h[i * n + j] = s;
		}
	bl_free(x);
}

int solve_set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct bl_err err = BL_ERR_INIT;

	if (bl_model_open(&f->m, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err))
		fail_msg("%s", err.text);
	bl_backend_open(&f->backend, NULL);
	f->pool = bl_pool_new(2);
	if (bl_engine_open(&f->e, &f->backend, "cpu", f->pool, 0, &err))
		fail_msg("%s", err.text);
	bl_registry_open(&f->r, BL_BUILD_DIR);
	f->h = bl_xalloc(256 * 256, sizeof *f->h);
	make_hessian(f->h, 256);
	strcpy(f->dir, "/tmp/bl-solve-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

int solve_tear_down(void **state)
{
	struct fixture *f = *state;

	bl_remove_tree(f->dir);
	bl_registry_close(&f->r);
	bl_engine_close(&f->e);
	bl_pool_free(f->pool);
	bl_backend_close(&f->backend);
	bl_model_close(f->m);
	bl_free(f->h);
	free(f);
	return 0;
}

struct bl_solve_request request(const struct fixture *f, int unit, const char *scheme, const char *params)
{
	struct bl_solve_request rq = { .registry = &f->r, .model = f->m, .unit = unit, .method = "gptq", .params = params, .h = f->h, .tokens = 1024 };
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_scheme_parse(&rq.scheme, scheme, &err), BL_OK);
	return rq;
}

struct bl_solved *solve(struct fixture *f, int unit, const char *scheme, const char *params)
{
	struct bl_solve_request rq = request(f, unit, scheme, params);
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;

	if (bl_solve_unit(&s, &f->e, &rq, &err))
		fail_msg("%s", err.text);
	return s;
}


struct nearest round_to_nearest(const struct fixture *f, int unit, const struct bl_scheme *s)
{
	const struct bl_unit *u = &f->m->units[unit];
	const int64_t spr = bl_scheme_scales_per_row(s, u->cols);
	struct nearest n = { bl_xalloc((size_t)(u->rows * u->cols), 1), bl_xalloc((size_t)(u->rows * spr), sizeof(float)) };
	struct bl_solver solver;
	struct bl_rows_buf b = { 0 };
	struct bl_err err = BL_ERR_INIT;
	int64_t at = 0;

	assert_int_equal(bl_solver_init(&solver, &f->r, s, "rtn", "", false, &err), BL_OK);
	for (int m = 0; m < u->n_members; at += u->members[m++].rows) {
		assert_int_equal(bl_solve_rows(&solver, &u->members[m], 0, u->members[m].rows, &b, &err), BL_OK);
		memcpy(n.codes + at * u->cols, b.codes, (size_t)(u->members[m].rows * u->cols));
		memcpy(n.scales + at * spr, b.scales, (size_t)(u->members[m].rows * spr) * sizeof(float));
	}
	bl_rows_buf_free(&b);
	bl_solver_fini(&solver);
	return n;
}

double relative_loss(const struct fixture *f, int unit, const struct bl_scheme *s, const int8_t *codes, const float *scales)
{
	const struct bl_unit *u = &f->m->units[unit];
	const struct bl_coded coded = { codes, scales, NULL, NULL };
	float *q = bl_xalloc((size_t)(u->rows * u->cols), sizeof *q), w[256];
	double base = 0, loss = 0, v[2][256];
	int64_t at = 0;

	bl_scheme_decode(q, s, &coded, u->rows, u->cols);
	for (int m = 0; m < u->n_members; at += u->members[m++].rows)
		for (int64_t row = 0; row < u->members[m].rows; row++) {
			bl_cpu_ops()->load_rows(w, (const uint16_t *)u->members[m].weight->data + row * 256, BK_BF16, 256);
			for (int k = 0; k < 256; k++) {
				v[0][k] = w[k];
				v[1][k] = (double)w[k] - q[(at + row) * 256 + k];
			}
			for (int which = 0; which < 2; which++) {
				double sum = 0;

				for (int i = 0; i < 256; i++) {
					double line = 0.5 * f->h[i * 256 + i] * v[which][i];

					for (int j = 0; j < i; j++)
						line += f->h[i * 256 + j] * v[which][j];
					sum += 2 * line * v[which][i];
				}
				*(which ? &loss : &base) += sum;
			}
		}
	bl_free(q);
	return loss / base;
}

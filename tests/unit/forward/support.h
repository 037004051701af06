/* SPDX-License-Identifier: Apache-2.0
 * A machine to run on (BL_TEST_DEVICE, else the CPU), outcomes as float32, and the measure of the fixtures: max |a - b| / rms(b). */
#ifndef FORWARD_SUPPORT_H
#define FORWARD_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/forward/forward.h"

#define LAYERS 8

struct machine { struct bl_backend backend; struct bl_pool *pool; struct bl_engine engine; };
void machine_open(struct machine *m, int threads, uint64_t memory_limit);
void machine_close(struct machine *m);

char *shared(const char *name); /* bl_free */
bool has_shared(const char *name);
struct bl_model *open_model(const char *path); /* fails the test */
struct bl_st *open_tensors(const char *path);
void close_tensors(struct bl_st *st);
/* As float32; n: elements. Fails the test when it is missing. bl_free. */
float *tensor_floats(const struct bl_st *st, const char *name, int64_t *n);
int32_t *tensor_ids(const struct bl_st *st, const char *name, int64_t *rows, int64_t *cols);

struct outcome {
	int64_t tokens, hidden_cols, vocab, n_logits;
	int n_hidden;               /* layers + 1; the last one after the final norm */
	float *hidden[LAYERS + 1];
	float *logits;              /* of the last n_logits / sequences tokens of each sequence */
	float **absmax;             /* per unit, NULL when not asked for */
	int n_units;
};
struct asking { bool fp32, absmax, bf16_frequencies; int64_t batch_tokens, last; uint64_t weight_bytes, host_bytes; const char *spill_dir; const struct bl_weight_set *set; };
void compute(struct outcome *o, struct machine *m, const struct bl_model *model, const int32_t *ids, int64_t n_seq, int64_t seqlen, const struct asking *a);
void outcome_free(struct outcome *o);
bool outcomes_equal(const struct outcome *a, const struct outcome *b);

double worst(const float *a, const float *b, int64_t n);    /* max |a - b| / rms(b) */
double rms_error(const float *a, const float *b, int64_t n); /* rms(a - b) / rms(b) */

#endif

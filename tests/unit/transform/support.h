/* SPDX-License-Identifier: Apache-2.0
 * Small random models of any family, whose tensors a test may change before they are opened; their logits; a calibration of them. */
#ifndef TRANSFORM_SUPPORT_H
#define TRANSFORM_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/pool.h"
#include "core/calib/calib.h"
#include "core/forward/forward.h"
#include "core/transform/fold.h"

enum { HIDDEN = 48, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, FFN = 80, LAYERS = 3, VOCAB = 64, TOKENS = 24, SEQUENCES = 3 };

struct toy_tensor { char name[128]; int64_t rows, cols; float *v; }; /* cols 0: a vector */
struct toy {
	char config[2048];
	struct toy_tensor *t; int n; size_t cap;
	bool bf16;                   /* how it is stored; else float32 */
	char *bytes; struct bl_model *model;
};
void toy_make(struct toy *t, const char *model_type);
void toy_free(struct toy *t);
float *toy_find(struct toy *t, int block, const char *below); /* block -1: the whole name; fails the test */
/* A model from the tensors as they are now; the earlier one is closed. */
struct bl_model *toy_open(struct toy *t);

struct ground { struct bl_pool *pool; struct bl_backend backend; struct bl_engine engine; char *cache; };
void ground_open(struct ground *g);
void ground_close(struct ground *g);
/* [SEQUENCES * TOKENS, VOCAB]; bl_free */
float *logits(struct ground *g, const struct bl_model *m, const struct bl_weight_set *set, bool fp32);
double worst(const float *a, const float *b); /* largest difference over the largest value of b */
struct bl_calib *calibration(struct ground *g, const struct bl_model *m);
/* Fails the test when it cannot be made. */
struct bl_fold *fold_of(struct ground *g, const struct bl_model *m, const struct bl_calib *c, const char *stages);

#endif

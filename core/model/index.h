/* SPDX-License-Identifier: Apache-2.0
 * Which weight files a folder has: the index's when there is one, else model.safetensors, else the only *.safetensors. */
#ifndef BL_MODEL_INDEX_H
#define BL_MODEL_INDEX_H

#include "core/model/model.h"

struct bl_file_list { char **names; size_t n; cJSON *index; char *index_path; };
enum bl_status bl_weight_files(struct bl_file_list *out, const char *dir, const char *only_file, struct bl_err *err);
/* After the files were opened: every name of weight_map is in its file; tensors in a file that the map does not name become a problem. */
enum bl_status bl_weight_map_check(const struct bl_file_list *l, struct bl_model *m, struct bl_err *err);
void bl_file_list_free(struct bl_file_list *l);
/* Parses the index text alone (also for fuzzing): the distinct file names, sorted. */
enum bl_status bl_index_parse(struct bl_file_list *out, const char *text, size_t n, const char *label, struct bl_err *err);
void bl_model_problem(struct bl_model *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

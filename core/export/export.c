/* SPDX-License-Identifier: Apache-2.0
 * The export from request to renamed result: rules, space, write, prove, rename. */
#include "core/export/export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/export/layout.h"
#include "core/export/leftovers.h"
#include "core/export/write.h"
#include "core/export/zip_write.h"

#define SLACK_BYTES (1u << 20) /* file system metadata */

static bool is_zip(const struct bl_export_request *rq)
{
	return bl_ends_with(rq->out, ".zip");
}

/* ---- before anything is written ---- */

static enum bl_status check_rules(const struct bl_export_request *rq, struct bl_err *err)
{
	struct bl_problem *problems = NULL;
	int n_fatal = 0, n = bl_target_check_plan(&problems, &n_fatal, rq->target, rq->model, rq->plan);

	for (int i = 0; i < n && n_fatal && !rq->ignore_rules; i++)
		if (problems[i].fatal) {
			bl_fail(err, BL_RULE, "%s%s", problems[i].sentence, n_fatal > 1 ? " (and more: `bitlathe check` lists them)" : "");
			break;
		}
	bl_free(problems);
	return err->status;
}

static enum bl_status check_place(const struct bl_export_request *rq, struct bl_err *err)
{
	char *out = realpath(rq->out, NULL), *source = realpath(rq->model->dir, NULL);
	struct stat st;

	if (!*rq->out)
		bl_fail(err, BL_USAGE, "export: where to? give a folder or a name ending in .zip");
	else if (out && source && !strcmp(out, source))
		bl_fail(err, BL_USAGE, "%s: is the source itself; the source is never written to", rq->out);
	else if (lstat(rq->out, &st) == 0) {
		if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
			bl_fail(err, BL_USAGE, "%s: is a device, pipe or socket; it is not replaced", rq->out);
		else if (!rq->overwrite)
			bl_fail(err, BL_USAGE, "%s: exists already (--force replaces it after the proof)", rq->out);
		else if (is_zip(rq) && S_ISDIR(st.st_mode))
			bl_fail(err, BL_USAGE, "%s: is a folder, not a zip", rq->out);
		else if (!is_zip(rq) && !S_ISDIR(st.st_mode))
			bl_fail(err, BL_USAGE, "%s: is a file, not a folder", rq->out);
		else if (!is_zip(rq) && !bl_is_checkpoint_dir(rq->out))
			bl_fail(err, BL_USAGE, "%s: is a folder that holds other things than a checkpoint; it is not replaced", rq->out);
	}
	free(out);
	free(source);
	return err->status;
}

static void describe(struct bl_export_result *out, const struct bl_layout *l)
{
	out->n_files = l->n_files;
	out->files = bl_xalloc((size_t)l->n_files + 1, sizeof *out->files);
	for (int i = 0; i < l->n_files; i++) {
		out->files[i].name = bl_xstrdup(l->files[i].name);
		out->files[i].bytes = l->files[i].bytes;
	}
	out->bytes_total = out->package_bytes = l->bytes_total;
	out->tensors = l->n_tensors;
	snprintf(out->format, sizeof out->format, "%s", l->format);
	bl_str_addn(&out->edits, l->edits.s ? l->edits.s : "", l->edits.len);
}

static struct bl_zip_entry *zip_entries(const struct bl_layout *l, uint64_t *directory_at)
{
	struct bl_zip_entry *e = bl_xalloc((size_t)l->n_files + 1, sizeof *e);

	for (int i = 0; i < l->n_files; i++) {
		struct bl_str name = {0};
		bl_str_addf(&name, "model/%s", l->files[i].name);
		e[i].name = bl_str_take(&name);
		e[i].bytes = l->files[i].bytes;
	}
	*directory_at = bl_zip_layout(e, l->n_files);
	return e;
}

static void zip_entries_free(struct bl_zip_entry *e, int n)
{
	for (int i = 0; i < n; i++)
		bl_free(e[i].name);
	bl_free(e);
}

static enum bl_status check_limits(const struct bl_export_request *rq, uint64_t package, uint64_t files, struct bl_err *err)
{
	const struct bl_target *t = rq->target;
	char a[32], b[32];

	if (is_zip(rq) && t->zip_limit && package > t->zip_limit && !rq->ignore_rules)
		return bl_fail(err, BL_RULE, "%s: the zip would have %s, the limit is %s", rq->out, bl_human_bytes(a, sizeof a, (double)package),
			       bl_human_bytes(b, sizeof b, (double)t->zip_limit));
	if (is_zip(rq) && t->unzipped_limit && files > t->unzipped_limit && !rq->ignore_rules)
		return bl_fail(err, BL_RULE, "%s: unpacked it would have %s, the limit is %s", rq->out, bl_human_bytes(a, sizeof a, (double)files),
			       bl_human_bytes(b, sizeof b, (double)t->unzipped_limit));
	return BL_OK;
}

static enum bl_status check_space(const struct bl_export_request *rq, uint64_t bytes, struct bl_err *err)
{
	uint64_t have = bl_free_bytes(rq->out);
	char a[32], b[32];

	if (have < bytes + SLACK_BYTES)
		return bl_fail(err, BL_NO_SPACE, "%s: %s needed, %s free", rq->out, bl_human_bytes(a, sizeof a, (double)bytes + SLACK_BYTES),
			       bl_human_bytes(b, sizeof b, (double)have));
	return BL_OK;
}

enum bl_status bl_export_preview(struct bl_export_result *out, const struct bl_export_request *rq, struct bl_err *err)
{
	struct bl_layout l;
	uint64_t directory_at = 0;

	if (check_rules(rq, err) || check_place(rq, err) || bl_layout_make(&l, rq, err))
		return err->status;
	memset(out, 0, sizeof *out);
	describe(out, &l);
	out->n_unsolved = l.n_unsolved;
	if (is_zip(rq)) {
		struct bl_zip_entry *e = zip_entries(&l, &directory_at);
		out->package_bytes = directory_at + bl_zip_tail_bytes(e, l.n_files, directory_at);
		zip_entries_free(e, l.n_files);
	}
	bl_layout_free(&l);
	if (check_limits(rq, out->package_bytes, out->bytes_total, err)) {
		bl_export_result_free(out);
		memset(out, 0, sizeof *out);
	}
	return err->status;
}

/* ---- writing ---- */

/* Space is taken before any work is done. A file system that cannot reserve is fine: then a full disk is an error later. */
static enum bl_status reserve(int fd, uint64_t bytes, const char *path, struct bl_err *err)
{
	if (bytes && fallocate(fd, 0, 0, (off_t)bytes) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
		return bl_fail_sys(err, BL_IO, "%s: there is no room for its %llu bytes", path, (unsigned long long)bytes);
	return BL_OK;
}

static enum bl_status write_zip(const struct bl_layout *l, const struct bl_export_request *rq, int fd, const char *path, uint64_t *bytes, struct bl_err *err)
{
	uint64_t directory_at;
	struct bl_zip_entry *e = zip_entries(l, &directory_at);
	struct bl_sink *sinks = bl_xalloc((size_t)l->n_files + 1, sizeof *sinks);

	*bytes = directory_at + bl_zip_tail_bytes(e, l->n_files, directory_at);
	for (int i = 0; i < l->n_files; i++)
		sinks[i] = (struct bl_sink){fd, e[i].data_at, path, true, 0};
	if (reserve(fd, *bytes, path, err) == BL_OK && bl_layout_write(l, sinks, rq, err) == BL_OK) {
		for (int i = 0; i < l->n_files; i++)
			e[i].crc = sinks[i].crc;
		bl_zip_finish(fd, path, e, l->n_files, directory_at, err);
	}
	bl_free(sinks);
	zip_entries_free(e, l->n_files);
	return err->status;
}

static enum bl_status write_folder(const struct bl_layout *l, const struct bl_export_request *rq, const char *dir, struct bl_err *err)
{
	struct bl_sink *sinks = bl_xalloc((size_t)l->n_files + 1, sizeof *sinks);
	char **paths = bl_xalloc((size_t)l->n_files + 1, sizeof *paths);

	for (int i = 0; i < l->n_files; i++)
		sinks[i].fd = -1;
	for (int i = 0; i < l->n_files && !err->status; i++) {
		paths[i] = bl_path_join(dir, l->files[i].name);
		sinks[i] = (struct bl_sink){.fd = bl_create_file(paths[i], 0644, err), .path = paths[i]};
		if (sinks[i].fd >= 0 && l->files[i].weights)
			reserve(sinks[i].fd, l->files[i].bytes, paths[i], err);
	}
	if (!err->status)
		bl_layout_write(l, sinks, rq, err);
	for (int i = 0; i < l->n_files; i++) {
		if (sinks[i].fd >= 0) {
			if (!err->status)
				bl_fsync(sinks[i].fd, paths[i], err);
			close(sinks[i].fd);
		}
		bl_free(paths[i]);
	}
	bl_free(paths);
	bl_free(sinks);
	return err->status;
}

static enum bl_status source_unchanged(const struct bl_model *m, struct bl_err *err)
{
	for (int i = 0; i < m->n_files; i++)
		if (bl_map_unchanged(&m->files[i].st.map, err))
			return err->status;
	return BL_OK;
}

/* A map that broke off does not know its file: when the source has changed, that is the reason to give. */
static void name_the_cause(const struct bl_model *m, struct bl_err *err)
{
	struct bl_err why = BL_ERR_INIT;

	if (err->status == BL_IO && source_unchanged(m, &why))
		*err = why;
}

/* ---- the proof of what was written ---- */

/* Rounding to nearest never moves a weight further than about one step of its grid; methods that compensate errors or shrink ranges do. */
static double step_bound(const struct bl_export_request *rq)
{
	for (int i = 0; i < rq->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(rq->plan, i);
		if (c->scheme.number == BL_NUM_INT && (strcmp(c->method, "rtn") || *c->params))
			return 0;
	}
	return 2;
}

static const struct bl_tensor *values_instead(void *ctx, const struct bl_tensor *base) { return bl_layout_values(ctx, base); }

static enum bl_status prove(struct bl_export_result *out, const struct bl_layout *l, const struct bl_export_request *rq, const char *path, struct bl_err *err)
{
	struct bl_verify_request v = {.path = path, .base = rq->model, .target = rq->ignore_rules ? NULL : rq->target, .pool = rq->pool,
				      .progress = rq->progress, .want_sha256 = true, .strict = true, .as_zip = is_zip(rq),
				      .allow_nonfinite = bl_plan_zero_nonfinite(rq->plan), .max_step = step_bound(rq), .instead = values_instead, .instead_ctx = (void *)(uintptr_t)l};

	if (rq->progress) {
		atomic_store(&rq->progress->done_bytes, 0);
		atomic_store(&rq->progress->total_bytes, out->bytes_total);
		atomic_store(&rq->progress->phase, 1);
	}
	if (bl_verify_run(&out->proof, &v, err))
		return bl_err_prefix(err, "reading the export back");
	for (int i = 0; i < out->proof.n_findings; i++)
		if (out->proof.findings[i].fatal)
			return bl_fail(err, BL_MISMATCH, "the export does not prove: %s: %s", out->proof.findings[i].where, out->proof.findings[i].sentence);
	for (int i = 0; i < out->n_files; i++)
		for (int k = 0; k < out->proof.n_files; k++)
			if (!strcmp(out->files[i].name, out->proof.files[k].name))
				memcpy(out->files[i].sha256, out->proof.files[k].sha256, sizeof out->files[i].sha256);
	return BL_OK;
}

static enum bl_status run_zip(struct bl_export_result *out, const struct bl_layout *l, const struct bl_export_request *rq, struct bl_err *err)
{
	struct bl_replace r = {.fd = -1};
	uint64_t start = bl_now_ns();

	if (bl_replace_begin(&r, rq->out, 0644, err))
		return err->status;
	if (write_zip(l, rq, r.fd, rq->out, &out->package_bytes, err) || bl_fsync(r.fd, rq->out, err) || source_unchanged(rq->model, err))
		goto fail;
	out->seconds_write = (double)(bl_now_ns() - start) / 1e9;
	start = bl_now_ns();
	if (prove(out, l, rq, r.tmp, err))
		goto fail;
	out->seconds_prove = (double)(bl_now_ns() - start) / 1e9;
	return bl_replace_commit(&r, err);
fail:
	name_the_cause(rq->model, err);
	bl_replace_rollback(&r);
	return err->status;
}

static enum bl_status run_folder(struct bl_export_result *out, const struct bl_layout *l, const struct bl_export_request *rq, struct bl_err *err)
{
	struct bl_replace_dir d = {0};
	uint64_t start = bl_now_ns();

	if (bl_replace_dir_begin(&d, rq->out, rq->overwrite, err))
		return err->status;
	if (write_folder(l, rq, d.tmp, err) || source_unchanged(rq->model, err))
		goto fail;
	out->seconds_write = (double)(bl_now_ns() - start) / 1e9;
	start = bl_now_ns();
	if (prove(out, l, rq, d.tmp, err))
		goto fail;
	out->seconds_prove = (double)(bl_now_ns() - start) / 1e9;
	return bl_replace_dir_commit(&d, err);
fail:
	name_the_cause(rq->model, err);
	bl_replace_dir_rollback(&d);
	return err->status;
}

enum bl_status bl_export_run(struct bl_export_result *out, const struct bl_export_request *rq, struct bl_err *err)
{
	struct bl_layout l;
	struct bl_export_result made;

	if (bl_export_preview(&made, rq, err))
		return err->status;
	if (made.n_unsolved || check_space(rq, made.package_bytes, err) || bl_layout_make(&l, rq, err)) {
		if (made.n_unsolved)
			bl_fail(err, BL_FAILED, "%d units are not solved yet: `bitlathe quantize` solves them (calibrate first)", made.n_unsolved);
		bl_export_result_free(&made);
		return err->status;
	}
	bl_leftovers_remove(rq->out);
	if (rq->progress) {
		atomic_store(&rq->progress->phase, 0);
		atomic_store(&rq->progress->done_bytes, 0);
		atomic_store(&rq->progress->total_bytes, l.bytes_total);
	}
	if (is_zip(rq))
		run_zip(&made, &l, rq, err);
	else
		run_folder(&made, &l, rq, err);
	bl_layout_free(&l);
	if (err->status)
		bl_export_result_free(&made);
	else
		*out = made;
	return err->status;
}

void bl_export_result_free(struct bl_export_result *r)
{
	for (int i = 0; i < r->n_files; i++)
		bl_free(r->files[i].name);
	bl_free(r->files);
	bl_str_free(&r->edits);
	bl_verify_result_free(&r->proof);
	memset(r, 0, sizeof *r);
}

/* SPDX-License-Identifier: Apache-2.0
 * bitlathe: parse the line, run one command, print its result, leave with its exit code. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/machine.h"
#include "tui/cli.h"

static enum bl_status (*const commands[BL_COMMAND_COUNT])(struct bl_cli *, struct bl_err *) = {
#define BL_COMMAND(id, name, args, least, most, sentence) bl_cmd_##id,
#include "tui/commands/command_list.h"
#undef BL_COMMAND
};

#ifdef __clang__
#define BL_COMPILER "clang " __clang_version__
#else
#define BL_COMPILER "gcc " __VERSION__
#endif

static char *own_dir(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

	if (n <= 0)
		return NULL;
	path[n] = '\0';
	return bl_path_dir(path);
}

static bool runs_models(enum bl_command c)
{
	return c == BL_CMD_workbench || c == BL_CMD_forward || c == BL_CMD_generate || c == BL_CMD_quantize || c == BL_CMD_plan || c == BL_CMD_calibrate || c == BL_CMD_evaluate ||
	       c == BL_CMD_compare || c == BL_CMD_search || c == BL_CMD_export || c == BL_CMD_bench || c == BL_CMD_methods;
}

static enum bl_status prepare(struct bl_cli *c, struct bl_err *err)
{
	struct bl_err unknown = BL_ERR_INIT;
	long long n;

	if (bl_cli_time_limit(c, err) || bl_cli_stdio(c, err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_SETTINGS) && !bl_is_file(c->o.value[BL_OPT_SETTINGS]))
		return bl_fail(err, BL_NOT_FOUND, "--settings %s: no such file", c->o.value[BL_OPT_SETTINGS]);
	c->settings = bl_settings_new();
	char *path = bl_given(&c->o, BL_OPT_SETTINGS) ? bl_xstrdup(c->o.value[BL_OPT_SETTINGS]) : bl_settings_path();
	bl_settings_load(c->settings, path, &c->remarks);
	bl_free(path);
	c->quiet = bl_given(&c->o, BL_OPT_QUIET);
	c->verbose = bl_given(&c->o, BL_OPT_VERBOSE);
	c->session.program_dir = c->program_dir;
	const struct bl_target *target;
	c->session.target = c->o.value[BL_OPT_TARGET];
	if (c->session.target && bl_target_find(&target, c->session.target, err))
		return err->status;
	if (!bl_target_find(&target, bl_settings_text(c->settings, BL_SET_TARGET), &unknown))
		c->session.new_target = target->name;
	else
		bl_str_addf(&c->remarks, "the setting target: %s\n", unknown.text);
	if (bl_option_int(&c->o, BL_OPT_THREADS, 0, 1024, 0, &n, err))
		return err->status;
	c->session.threads = (int)n;
	if (!bl_given(&c->o, BL_OPT_THREADS) && getenv("OMP_NUM_THREADS")) { /* "8", or a list for nested loops: the first counts */
		n = strtol(getenv("OMP_NUM_THREADS"), NULL, 10);
		c->session.threads = n >= 1 && n <= 1024 ? (int)n : 0;
	}
	if (bl_option_int(&c->o, BL_OPT_SEED, 0, 1ll << 62, 42, &n, err))
		return err->status;
	c->session.seed = n;
	if (bl_cli_size(&c->o, BL_OPT_MEMORY_LIMIT, 1, &c->session.memory_limit, err))
		return err->status;
	const char *device = c->o.value[BL_OPT_DEVICE];
	c->session.device = device;
	c->session.cache_dir = c->o.value[BL_OPT_CACHE];
	if (device && bl_starts_with(device, "cuda") && !runs_models(c->o.command))
		return bl_fail(err, BL_NO_DEVICE, "--device %s: this command runs on no GPU; cpu does it", device);
	return device ? bl_machine_device(device, c->program_dir, err) : BL_OK; /* also where little would run there: it was asked for */
}

static void version(struct bl_cli *c)
{
	char *module = bl_machine_cuda_module(c->program_dir);
	const bool cuda = module != NULL;

	bl_free(module);
	bl_cli_line(c, "bitlathe %s", BL_VERSION);
	if (c->json) {
		cJSON_AddStringToObject(c->json, "version", BL_VERSION);
		cJSON_AddStringToObject(c->json, "compiler", BL_COMPILER);
		cJSON_AddBoolToObject(c->json, "cuda_module", cuda);
	} else {
		bl_cli_line(c, "built with %s, %s", BL_COMPILER, cuda ? "with the CUDA module" : "without a CUDA module");
	}
}

static enum bl_status special(struct bl_cli *c, bool *done, struct bl_err *err)
{
	*done = true;
	if (bl_given(&c->o, BL_OPT_VERSION)) {
		version(c);
	} else if (bl_given(&c->o, BL_OPT_HELP)) {
		bl_docs_help(&c->text, c->o.command == BL_CMD_workbench ? -1 : (int)c->o.command);
		if (c->json)
			cJSON_AddStringToObject(c->json, "help", bl_str_c(&c->text));
	} else if (bl_given(&c->o, BL_OPT_DUMP_MAN)) {
		bl_docs_man(&c->text);
		if (c->json)
			cJSON_AddStringToObject(c->json, "manual", bl_str_c(&c->text));
	} else if (bl_given(&c->o, BL_OPT_DUMP_COMPLETION)) {
		return bl_docs_completion(&c->text, c->o.value[BL_OPT_DUMP_COMPLETION], err);
	} else {
		*done = false;
	}
	return BL_OK;
}

/* One JSON object, or the text; then everything must really have left the process, or that is the error. */
static enum bl_status print(struct bl_cli *c, enum bl_status status, struct bl_err *err)
{
	struct bl_err unsaid = BL_ERR_INIT;
	struct bl_str out = {0};

	if (!c->json) {
		bl_cli_flush(c, &unsaid);
	} else {
		if (status) {
			cJSON *e = cJSON_AddObjectToObject(c->json, "error");
			cJSON_AddStringToObject(e, "status", bl_status_name(status));
			cJSON_AddStringToObject(e, "sentence", err->text[0] ? err->text : bl_status_text(status));
		}
		bl_json_print(&out, c->json, 2, false);
		bl_str_addc(&out, '\n');
		if (fwrite(out.s, 1, out.len, stdout) != out.len || fflush(stdout))
			bl_fail_sys(&unsaid, BL_IO, "standard output cannot be written");
		bl_str_free(&out);
	}
	if ((unsaid.sys == EPIPE && !status) || err->sys == EPIPE) { /* whoever reads has enough: end as a program does that knows nothing of pipes, without a word */
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	if (!unsaid.status || status)
		return status;
	*err = unsaid;
	return err->status;
}

int main(int argc, char **argv)
{
	struct bl_cli c = {.session = {.seed = 42}};
	struct bl_err err = BL_ERR_INIT;
	struct bl_str remarks = {0};
	bool done = false;

	bl_guard_install();
	bl_cli_signals();
	c.program_dir = own_dir();
	enum bl_status status = bl_options_parse(&c.o, argc, argv, &err);
	for (int i = 1; i < argc && status; i++) /* the line could not be parsed: was JSON asked for? */
		if (!strcmp(argv[i], "--json"))
			c.o.value[BL_OPT_JSON] = "";
	if (bl_given(&c.o, BL_OPT_JSON)) {
		c.json = cJSON_CreateObject();
		bl_json_add_int(c.json, "schema", 1);
	}
	if (!status)
		status = special(&c, &done, &err);
	if (!status && !done && (status = prepare(&c, &err)) == BL_OK)
		status = commands[c.o.command](&c, &err);
	if (c.remarks.len && !c.quiet)
		bl_cli_printable(&remarks, &c.remarks);
	fputs(bl_str_c(&remarks), stderr);
	status = print(&c, status, &err);
	if (status)
		fprintf(stderr, "bitlathe: %s\n", err.text[0] ? err.text : bl_status_text(status));
	cJSON_Delete(c.json);
	bl_str_free(&c.text);
	bl_str_free(&c.remarks);
	bl_str_free(&remarks);
	bl_settings_free(c.settings);
	bl_free(c.from_stdin);
	bl_free(c.program_dir);
	return bl_status_exit(status);
}

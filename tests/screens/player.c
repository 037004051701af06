/* SPDX-License-Identifier: Apache-2.0
 * Plays NAME.keys into the workbench and compares the screens with NAME.VARIANT.screen.
 *   screen_player NAME.keys            compares every variant
 *   screen_player --sabotage NAME.keys spoils one character of each screen first: every comparison must fail
 *   BL_UPDATE_GOLDEN=1                 writes the screens instead
 * Comments at the head of the .keys file say what to play on:
 *   # open: tiny-exaone4               a folder of tests/models (left out: the list of checkpoints)
 *   # beside: tiny-exaone4             one that lies there without being opened
 *   # data: yes                        the files of tests/data lie there as data/
 *   # mask: about                      numbers behind "about " depend on the machine: they are shown as # (up to 8 such lines)
 *   # column: solve s                  numbers under that heading depend on the machine: shown as #, down to the next rule
 *   # near: 4                          numbers come from sums that processors round differently: 4 per cent (or 2 in the last place) apart is equal
 *   # variants: 80x24 120x40 80x24-ascii 80x24-mono 80x24-dark     -mono and -dark also record the looks */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tui/script.h"

struct play {
	const char *keys;
	char open[64], beside[64], variants[256], mask[8][32], column[32];
	int n_masks, near;
	bool update, sabotage, data;
};

static void die(const struct bl_err *err)
{
	fprintf(stderr, "%s\n", err->text);
	exit(1);
}

static void heads(struct play *p, const char *text)
{
	while (*text == '#') {
		sscanf(text, "# open: %63s", p->open);
		sscanf(text, "# beside: %63s", p->beside);
		sscanf(text, "# near: %d", &p->near);
		p->data |= !strncmp(text, "# data: yes", 11);
		if (!strncmp(text, "# column: ", 10))
			snprintf(p->column, sizeof p->column, "%.*s", (int)strcspn(text + 10, "\n"), text + 10);
		if (!strncmp(text, "# mask: ", 8) && p->n_masks < 8)
			snprintf(p->mask[p->n_masks++], sizeof p->mask[0], "%.*s ", (int)strcspn(text + 8, "\n"), text + 8);
		if (!strncmp(text, "# variants: ", 12))
			snprintf(p->variants, sizeof p->variants, "%.*s", (int)strcspn(text + 12, "\n"), text + 12);
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
}

/* A place of our own: no settings, history or themes of whoever runs the tests; the model under a name that does not
 * depend on paths. */
static void prepare(const struct play *p)
{
	static const char *const xdg[] = { "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME",
					   "XDG_DATA_HOME",   "HF_HOME",        "HOME" };
	char folder[64];
	struct bl_err err = BL_ERR_INIT;
	const char *model = p->open[0] ? p->open : p->beside;
	char *from = bl_path_join(BL_SOURCE_DIR "/tests/models", model), *here, *state;

	snprintf(folder, sizeof folder, "screens.%ld", (long)getpid());
	if (bl_mkdirs(folder, 0700, &err) || chdir(folder))
		die(&err);
	if (!(here = realpath(".", NULL)))
		exit(1);
	state = bl_path_join(here, ".state"); /* a relative one would count for nothing */
	free(here);
	for (size_t i = 0; i < sizeof xdg / sizeof xdg[0]; i++)
		setenv(xdg[i], state, 1);
	bl_free(state);
	setenv("BL_TEST_CLOCK", "1767225600", 1);
	setenv("TZ", "UTC", 1);
	unsetenv("NO_COLOR");
	unsetenv("HF_HUB_CACHE");
	tzset();
	if (model[0] && symlink(from, model) && errno != EEXIST) {
		perror(from);
		exit(1);
	}
	if (p->data && symlink(BL_SOURCE_DIR "/tests/data", "data") && errno != EEXIST) {
		perror("data");
		exit(1);
	}
	bl_free(from);
}

/* Numbers behind a word of the head become one '#', so that their width does not matter. */
static void hide_numbers(const struct play *p, struct bl_str *s)
{
	struct bl_str out = { 0 };

	for (size_t i = 0; i < s->len;) {
		size_t len = 0;

		for (int m = 0; m < p->n_masks && !len; m++)
			len = strncmp(s->s + i, p->mask[m], strlen(p->mask[m])) ? 0 : strlen(p->mask[m]);
		if (!len || !strspn(s->s + i + len, "0123456789")) {
			bl_str_addc(&out, s->s[i++]);
			continue;
		}
		bl_str_addn(&out, s->s + i, len);
		i += len + strspn(s->s + i + len, "0123456789.:");
		bl_str_addc(&out, '#');
	}
	bl_str_free(s);
	*s = out;
}

static int columns_in(const char *from, size_t n)
{
	int columns = 0;

	for (size_t i = 0; i < n; i++)
		columns += ((unsigned char)from[i] & 0xc0) != 0x80;
	return columns;
}

/* In lines below the heading, the number that ends where the heading does. */
static void hide_column(const struct play *p, struct bl_str *s)
{
	struct bl_str out = { 0 };
	int end = 0;

	for (const char *line = s->s, *stop = s->s + s->len; line < stop;) {
		size_t len = strcspn(line, "\n"), at = 0, from, digits;
		const char *found = memmem(line, len, p->column, strlen(p->column));
		if (found)
			end = columns_in(line, (size_t)(found - line)) + (int)strlen(p->column);
		else if (!strncmp(line, "\xe2\x94\x80\xe2\x94\x80", 6) || !strncmp(line, "--", 2))
			end = 0;
		while (end && at < len && columns_in(line, at) < end)
			at++;
		while (at < len && ((unsigned char)line[at] & 0xc0) == 0x80)
			at++;
		from = at;
		while (!found && end && from > 0 && strchr("0123456789.", line[from - 1]))
			from--;
		digits = at - from;
		bl_str_addn(&out, line, from);
		for (size_t i = 0; i < digits; i++) /* as wide as it was at least: 0.331 */
			bl_str_addc(&out, i + 1 == digits ? '#' : ' ');
		bl_str_addn(&out, line + at, len - at + (line + len < stop));
		line += len + 1;
	}
	bl_str_free(s);
	*s = out;
}

static void cleanup(void)
{
	char folder[64];

	snprintf(folder, sizeof folder, "screens.%ld", (long)getpid());
	if (chdir("..") == 0)
		bl_remove_tree(folder);
}

static void play(const struct play *p, const char *variant, struct bl_str *out)
{
	struct bl_settings *settings = bl_settings_new();
	struct bl_session_options o = { .threads = 2, .seed = 42, .program_dir = BL_BUILD_DIR, .device = "cpu" };
	struct bl_script s = { .keys_path = p->keys };
	struct bl_err err = BL_ERR_INIT;
	char size[32], cache[96];

	snprintf(cache, sizeof cache, ".cache-%s", variant); /* what one variant stored is not there for the next */
	o.cache_dir = cache;
	snprintf(size, sizeof size, "%.*s", (int)strcspn(variant, "-"), variant);
	if (bl_script_size(size, &s.rows, &s.cols, &err))
		die(&err);
	s.ascii = bl_ends_with(variant, "-ascii");
	s.with_roles = bl_ends_with(variant, "-mono") || bl_ends_with(variant, "-dark");
	if (bl_settings_set(settings, "theme", bl_ends_with(variant, "-mono") ? "mono" : "dark", &err) ||
	    bl_script_run(&s, settings, &o, p->open[0] ? p->open : NULL, out, &err))
		die(&err);
	bl_settings_free(settings);
	if (p->n_masks && out->len)
		hide_numbers(p, out);
	if (p->column[0] && out->len)
		hide_column(p, out);
}

/* "-26.7", "~0.06", "14.61?", "1.03|": the number, and where it ends; false: none. */
static bool number_in(const char *word, size_t len, double *value, double *step, size_t *end)
{
	char text[64];
	size_t from = strcspn(word, "0123456789"), n;
	const char *dot;

	if (from >= len || len - from >= sizeof text)
		return false;
	snprintf(text, sizeof text, "%.*s", (int)(len - from), word + from);
	n = strspn(text, "0123456789.");
	text[n] = '\0';
	dot = strchr(text, '.');
	*value = strtod(text, NULL);
	*step = dot ? pow(10, -(double)strlen(dot + 1)) : 1;
	*end = from + n;
	return true;
}

/* Two words that are the same but for numbers that are nearly so. */
static bool near_words(const char *a, size_t na, const char *b, size_t nb, int per_cent)
{
	while (na || nb) {
		double x, y, sx, sy;
		size_t ea, eb, ha = strcspn(a, "0123456789"), hb = strcspn(b, "0123456789");

		ha = ha < na ? ha : na;
		hb = hb < nb ? hb : nb;
		if (ha != hb || memcmp(a, b, ha))
			return false;
		if (ha == na || hb == nb)
			return na == nb;
		if (!number_in(a, na, &x, &sx, &ea) || !number_in(b, nb, &y, &sy, &eb) ||
		    fabs(x - y) > fmax(fmax(sx, sy) * 2.001, fmax(x, y) * per_cent / 100))
			return false;
		a += ea;
		na -= ea;
		b += eb;
		nb -= eb;
	}
	return true;
}

static bool near(const char *a, const char *b, int per_cent)
{
	for (;;) {
		size_t na, nb;

		a += strspn(a, " ");
		b += strspn(b, " ");
		na = *a == '\n' ? 1 : strcspn(a, " \n");
		nb = *b == '\n' ? 1 : strcspn(b, " \n");
		if (!na && !nb)
			return true;
		if ((*a == '\n') != (*b == '\n') || !near_words(a, na, b, nb, per_cent))
			return false;
		a += na;
		b += nb;
	}
}

static bool same(const struct play *p, const char *want, const char *got)
{
	return !strcmp(want, got) || (p->near && near(want, got, p->near));
}

/* The first line that differs, for people. */
static void show_difference(const struct play *p, const char *name, const char *want, const char *got)
{
	int line = 1;

	while (*want || *got) {
		size_t a = strcspn(want, "\n"), b = strcspn(got, "\n");

		char *wanted = bl_xstrndup(want, a), *is = bl_xstrndup(got, b);
		bool equal = same(p, wanted, is);

		bl_free(wanted);
		bl_free(is);
		if (!equal) {
			fprintf(stderr, "%s, line %d\n  expected: %.*s\n  is:       %.*s\n", name, line, (int)a, want,
				(int)b, got);
			return;
		}
		want += a + (want[a] == '\n');
		got += b + (got[b] == '\n');
		line++;
	}
}

static void spoil(struct bl_str *s)
{
	for (size_t i = s->len; i-- > 0;)
		if (s->s[i] > ' ' && s->s[i] < 0x7f) {
			s->s[i] = s->s[i] == 'X' ? 'Y' : 'X';
			return;
		}
}

static int check(const struct play *p, const char *variant)
{
	struct bl_str got = { 0 };
	char golden[4096], *want = NULL;
	size_t n = 0;
	struct bl_err err = BL_ERR_INIT;
	int bad = 0;

	snprintf(golden, sizeof golden, "%.*s.%s.screen", (int)(strlen(p->keys) - 5), p->keys, variant);
	play(p, variant, &got);
	if (p->sabotage)
		spoil(&got);
	if (p->update) {
		if (bl_write_file(golden, bl_str_c(&got), got.len, 0644, &err))
			die(&err);
	} else if (bl_read_file(&want, &n, golden, 1 << 20, true, &err)) {
		fprintf(stderr, "%s\n(BL_UPDATE_GOLDEN=1 writes it)\n", err.text);
		bad = 1;
	} else if (!same(p, want, bl_str_c(&got))) {
		if (!p->sabotage)
			show_difference(p, golden, want, got.s);
		bad = 1;
	}
	bl_free(want);
	bl_str_free(&got);
	return bad;
}

int main(int argc, char **argv)
{
	struct play p = { .update = getenv("BL_UPDATE_GOLDEN") != NULL };
	struct bl_err err = BL_ERR_INIT;
	char *text, *path;
	size_t n;
	int failed = 0, count = 0;

	p.sabotage = argc == 3 && !strcmp(argv[1], "--sabotage");
	if (argc != 2 + p.sabotage || !bl_ends_with(argv[argc - 1], ".keys") ||
	    !(path = realpath(argv[argc - 1], NULL))) {
		fprintf(stderr, "usage: screen_player [--sabotage] NAME.keys\n");
		return 2;
	}
	setlocale(LC_CTYPE, "C.UTF-8");
	p.keys = path;
	p.update = p.update && !p.sabotage;
	if (bl_read_file(&text, &n, path, 1 << 20, true, &err))
		die(&err);
	heads(&p, text);
	prepare(&p);
	for (char *save = NULL, *v = strtok_r(p.variants, " ", &save); v; v = strtok_r(NULL, " ", &save), count++) {
		pid_t child = fork(); /* each with a log of its own */
		int status = 0;

		if (child == 0) {
			int bad = check(&p, v);

			bl_free(text);
			free(path);
			exit(bad);
		}
		failed += child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
			  WEXITSTATUS(status) != 0;
	}
	cleanup();
	bl_free(text);
	free(path);
	if (p.sabotage)
		return count > 0 && failed == count ? 0 : 1;
	return count > 0 && failed == 0 ? 0 : 1;
}

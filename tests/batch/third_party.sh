#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What it costs to add something from outside: an installed bitlathe, a plugin built against nothing but the installed header, a theme file.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$BL_BUILD_DIR" --prefix "$work/prefix" >/dev/null
bin=$work/prefix/bin/bitlathe
export HOME="$work/home" XDG_DATA_HOME="$work/data" XDG_CONFIG_HOME="$work/config" LC_ALL=C.UTF-8
mkdir -p "$work/data/bitlathe/plugins" "$work/config/bitlathe/themes"
for f in share/man/man1/bitlathe.1 share/bash-completion/completions/bitlathe include/bitlathe/plugin_api.h; do
	[ -s "$work/prefix/$f" ] || { echo "not installed: $f"; exit 1; }
done

# a method that always rounds with three quarters of the range
cat >"$work/narrow.c" <<'EOF'
#include <plugin_api.h>
static size_t scratch(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	return 2 * sizeof(float) * (size_t)(rows * (g->group ? cols / g->group : 1));
}
static const char *solve(const struct bl_method_rows *c)
{
	int64_t n = c->n_rows * (c->grid.group ? c->cols / c->grid.group : 1);
	float *lo = c->scratch, *hi = lo + n;
	c->host->range(lo, hi, c->w, c->n_rows, c->cols, &c->grid);
	c->host->scales(c->scales, c->zeros, lo, hi, n, c->params[0], &c->grid);
	c->host->encode(c->codes, c->w, c->scales, c->zeros, c->n_rows, c->cols, &c->grid, BL_QUOTIENT_F32);
	return NULL;
}
static const char *refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	return g->number != BL_GRID_INT || rows < 1 || cols < 1 ? "integers only" : NULL;
}
static const struct bl_param params[] = {{"part", BL_PARAM_REAL, "0.75", 0.1, 1, NULL, "Part of the range that is kept."}};
static const struct bl_method method = {.name = "narrow", .sentence = "A part of the range.", .params = params, .n_params = 1,
					.refuses = refuses, .scratch_bytes = scratch, .solve_rows = solve};
static const struct bl_method *const methods[] = {&method, NULL};
static const struct bl_plugin_v1 plugin = {.api_version = BL_PLUGIN_API_VERSION, .name = "narrow", .version = "1", .sentence = "Example.", .methods = methods};
BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
EOF
cc -shared -fPIC -Wall -Wextra -Werror -I"$work/prefix/include/bitlathe" "$work/narrow.c" -o "$work/data/bitlathe/plugins/narrow.so"
printf 'not a shared object' >"$work/data/bitlathe/plugins/broken.so"
"$bin" plugins >"$work/list"
grep -q 'method  narrow' "$work/list" && grep -q 'method  rtn' "$work/list" && grep -q compressed-tensors "$work/list" || { cat "$work/list"; exit 1; }
grep -q 'broken.so' "$work/list" || { echo "a broken plugin is not named"; exit 1; }

model=$BL_SOURCE_DIR/tests/models/tiny-exaone4
"$bin" export "$model" --set 'all=W4A16:narrow,part=0.8' -o "$work/a.zip" -q >/dev/null
"$bin" export "$model" --set all=W4A16 -o "$work/b.zip" -q >/dev/null
"$bin" verify "$work/a.zip" --base "$model" >/dev/null
! cmp -s "$work/a.zip" "$work/b.zip" || { echo "the plugin had no effect"; exit 1; }
! "$bin" export "$model" --set 'all=W4A16:narrow,part=7' -o "$work/c.zip" -q >/dev/null 2>&1 || { echo "a parameter out of range was taken"; exit 1; }

printf '# A theme of our own\ntitle = black on #ffcc00\n' >"$work/config/bitlathe/themes/ours.theme"
"$bin" themes | grep -q '^ours' || { echo "the theme is not found"; exit 1; }
echo "plugin, theme, manual, completions: ok"

/* SPDX-License-Identifier: Apache-2.0
 * Finds the chat template of a checkpoint and renders conversations with it, with the variables that transformers gives. */
#include "core/text/chat.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/text/jinja.h"

#define INSTEAD "; give rows of \"text\" or \"input_ids\" instead of conversations"
#define CONFIG_MAX (64u << 20)
#define CONFIG_VALUES 4000000

static const char *const special_names[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
#define N_SPECIAL (sizeof special_names / sizeof special_names[0])

struct bl_chat {
	struct jj_template t;
	char *where;              /* the file, for messages */
	char *special[N_SPECIAL]; /* NULL: none */
	const char *name;
	char digest[65];
};

void bl_chat_free(struct bl_chat *c)
{
	if (!c)
		return;
	jj_template_free(&c->t);
	for (size_t i = 0; i < N_SPECIAL; i++)
		bl_free(c->special[i]);
	bl_free(c->where);
	bl_free(c);
}

const char *bl_chat_name(const struct bl_chat *c) { return c->name; }
const char *bl_chat_digest(const struct bl_chat *c) { return c->digest; }

static const char *family(const char *text, size_t n)
{
	static const struct { const char *mark, *also, *name; } known[] = {
		{"[|endofturn|]", "think>", "exaone4"}, {"[|endofturn|]", "[|tool|]", "exaone4"}, {"[|endofturn|]", "", "exaone"},
		{"<|start_header_id|>", "", "llama3"}, {"<|im_start|>", "think>", "qwen3"}, {"<|im_start|>", "", "chatml"}, {"[INST]", "", "mistral"},
		{"<start_of_turn>", "", "gemma"}, {"<|assistant|>", "", "phi"},
	};

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (memmem(text, n, known[i].mark, strlen(known[i].mark)) && memmem(text, n, known[i].also, strlen(known[i].also)))
			return known[i].name;
	return "custom";
}

/* "bos_token": "<s>" or {"content": "<s>", …} */
static void take_special(struct bl_chat *c, const cJSON *config)
{
	for (size_t i = 0; i < N_SPECIAL; i++) {
		const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, special_names[i]);
		if (cJSON_IsObject(v))
			v = cJSON_GetObjectItemCaseSensitive(v, "content");
		if (!c->special[i] && cJSON_IsString(v))
			c->special[i] = bl_xstrdup(v->valuestring);
	}
}

/* chat_template of tokenizer_config.json: a text, or a list of named ones of which "default" counts. */
static const char *template_in(const cJSON *config)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, "chat_template"), *e;

	if (!cJSON_IsArray(v))
		return cJSON_IsString(v) ? v->valuestring : NULL;
	cJSON_ArrayForEach(e, v) {
		const cJSON *name = cJSON_GetObjectItemCaseSensitive(e, "name"), *text = cJSON_GetObjectItemCaseSensitive(e, "template");
		if (cJSON_IsString(name) && !strcmp(name->valuestring, "default") && cJSON_IsString(text))
			return text->valuestring;
	}
	return NULL;
}

static enum bl_status compile(struct bl_chat *c, const char *text, size_t n, const char *where, struct bl_err *err)
{
	c->where = bl_xstrdup(where);
	c->name = family(text, n);
	bl_sha256_of(text, n, c->digest);
	if (jj_parse(&c->t, text, n, err) == BL_OK)
		return BL_OK;
	struct bl_err why = *err;
	bl_err_clear(err);
	return bl_fail(err, why.status, "%s: %.300s" INSTEAD, where, why.text);
}

enum bl_status bl_chat_parse(struct bl_chat **out, const char *text, size_t n, const char *where, struct bl_err *err)
{
	struct bl_chat *c = bl_xalloc(1, sizeof *c);

	if (compile(c, text, n, where, err))
		bl_chat_free(c);
	else
		*out = c;
	return err->status;
}

void bl_chat_special(struct bl_chat *c, const char *name, const char *token)
{
	for (size_t i = 0; i < N_SPECIAL; i++)
		if (!strcmp(special_names[i], name)) {
			bl_free(c->special[i]);
			c->special[i] = bl_xstrdup(token);
		}
}

static cJSON *config_of(const char *folder, const char *name, struct bl_err *err)
{
	char *path = bl_path_join(folder, name);
	cJSON *root = NULL;

	if (bl_is_file(path))
		bl_json_load(&root, path, CONFIG_MAX, CONFIG_VALUES, err);
	bl_free(path);
	return root;
}

enum bl_status bl_chat_open(struct bl_chat **out, const char *folder, struct bl_err *err)
{
	struct bl_chat *c = bl_xalloc(1, sizeof *c);
	char *jinja = bl_path_join(folder, "chat_template.jinja"), *config_path = bl_path_join(folder, "tokenizer_config.json"), *text = NULL;
	cJSON *config = config_of(folder, "tokenizer_config.json", err), *special = err->status ? NULL : config_of(folder, "special_tokens_map.json", err);
	size_t n = 0;

	if (err->status)
		goto done;
	take_special(c, config);
	take_special(c, special);
	const char *inside = template_in(config);
	if (bl_is_file(jinja)) {
		if (bl_read_file(&text, &n, jinja, JJ_SOURCE_MAX, true, err) == BL_OK)
			compile(c, text, n, jinja, err);
	} else if (inside) {
		struct bl_str where = {0};
		bl_str_addf(&where, "%s: chat_template", config_path);
		compile(c, inside, strlen(inside), where.s, err);
		bl_str_free(&where);
	} else {
		bl_fail(err, BL_INVALID, "%s: the checkpoint has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)" INSTEAD,
				folder);
	}
done:
	if (err->status)
		bl_chat_free(c);
	else
		*out = c;
	bl_free(text);
	bl_free(jinja);
	bl_free(config_path);
	cJSON_Delete(config);
	cJSON_Delete(special);
	return err->status;
}

static struct jj_value message_value(struct jj_run *r, const struct bl_message *m)
{
	struct jj_value v = {.type = JT_DICT, .dict = jj_dict_new(r)};

	jj_dict_set(r, v.dict, JJ_STR("role", 4), JJ_STR(m->role, strlen(m->role)));
	jj_dict_set(r, v.dict, JJ_STR("content", 7), JJ_STR(m->content, strlen(m->content)));
	return v;
}

enum bl_status bl_chat_render(const struct bl_chat *c, const struct bl_message *messages, size_t n, bool generation, struct bl_str *out,
			struct bl_err *err)
{
	struct bl_err inner = BL_ERR_INIT;
	struct jj_frame top = {0};
	struct jj_run r = {.arena = {.max = JJ_MEMORY_MAX}, .out = out, .top = &top, .err = &inner};
	size_t was = out->len;
	struct jj_list *list = jj_list_new(&r, n);

	for (size_t i = 0; i < list->n; i++)
		list->v[i] = message_value(&r, &messages[i]);
	jj_frame_set(&r, &top, "messages", (struct jj_value){.type = JT_LIST, .list = list});
	jj_frame_set(&r, &top, "tools", JJ_NONE);
	jj_frame_set(&r, &top, "documents", JJ_NONE);
	jj_frame_set(&r, &top, "add_generation_prompt", JJ_BOOL(generation));
	for (size_t i = 0; i < N_SPECIAL; i++)
		if (c->special[i])
			jj_frame_set(&r, &top, special_names[i], JJ_STR(c->special[i], strlen(c->special[i])));
	if (!inner.status)
		jj_render(&r, &c->t);
	jj_arena_free(&r.arena);
	if (!inner.status)
		return BL_OK;
	out->len = was;
	if (out->s)
		out->s[was] = '\0';
	return inner.status == BL_UNSUPPORTED ? bl_fail(err, inner.status, "%s: %.300s" INSTEAD, c->where, inner.text) :
						bl_fail(err, inner.status, "%s: %.400s", c->where, inner.text);
}

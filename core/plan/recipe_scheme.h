/* SPDX-License-Identifier: Apache-2.0
 * What a recipe says about numbers, as a scheme and parameters of a method; and the list of what could not be honoured. */
#ifndef BL_PLAN_RECIPE_SCHEME_H
#define BL_PLAN_RECIPE_SCHEME_H

#include "core/plan/recipe.h"
#include "core/plan/yaml_tree.h"

struct bl_recipe_notes { struct bl_str *out; const char *label; int n; };
/* One line; after the first 200 only the number is told (by bl_recipe_notes_end). */
void bl_recipe_note(struct bl_recipe_notes *n, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void bl_recipe_notes_end(struct bl_recipe_notes *n);

/* by_index: the modifier asks for groups by an index wherever its schemes have groups. */
struct bl_recipe_scheme { struct bl_scheme scheme; char method[BL_METHOD_NAME_MAX]; char params[512]; bool by_index; };

/* Both start from `base`: the method and the parameters that the modifier gives to all of its groups.
 * A scheme by name ("W4A16"); false with a note when it is not offered. `at` gives the line. */
bool bl_recipe_scheme_named(struct bl_recipe_scheme *out, const struct bl_recipe_scheme *base, const char *name, const struct bl_yaml *at,
			    struct bl_recipe_notes *notes);
/* A config group: weights, input_activations, output_activations. False with a note when it means nothing that is offered. */
bool bl_recipe_scheme_group(struct bl_recipe_scheme *out, const struct bl_recipe_scheme *base, const struct bl_yaml *group,
			    const struct bl_recipe_methods *methods, struct bl_recipe_notes *notes);
/* observer (of weights, or of a whole modifier) and its arguments, as parameters of round-to-nearest. */
void bl_recipe_observer(struct bl_recipe_scheme *s, const struct bl_yaml *observer, const struct bl_yaml *kwargs, const struct bl_recipe_methods *methods,
			struct bl_recipe_notes *notes);
bool bl_recipe_knows(const struct bl_recipe_methods *methods, const char *name);
/* Appends "key=value"; a value that a parameter text cannot hold is noted and left out. */
void bl_recipe_param(struct bl_recipe_scheme *s, const char *key, const struct bl_yaml *value, struct bl_recipe_notes *notes);

/* actorder as compressed-tensors reads it: group (dynamic, true): groups by an index, a matter of the scheme; static (weight): the order in which a method
 * rounds, which the files do not show; null, false: no order. */
enum bl_recipe_order { BL_RECIPE_UNORDERED, BL_RECIPE_STATIC, BL_RECIPE_BY_INDEX, BL_RECIPE_OTHER };
enum bl_recipe_order bl_recipe_order(const struct bl_yaml *v); /* NULL: no order */
/* A method's actorder: a parameter, or by_index. */
void bl_recipe_actorder(struct bl_recipe_scheme *s, const struct bl_yaml *v, struct bl_recipe_notes *notes);

/* Arguments of observer_kwargs for what the recipe's own words cannot say: a method that is no modifier, parameters as one text. */
#define BL_RECIPE_METHOD_KEY "bitlathe_method"
#define BL_RECIPE_PARAMS_KEY "bitlathe_params"
/* Parameters that recipes have words for, NULL-terminated: in observer_kwargs (round-to-nearest), in a GPTQModifier, in one
 * that prunes. */
extern const char *const bl_recipe_rtn_keys[], *const bl_recipe_gptq_keys[], *const bl_recipe_prune_keys[];
bool bl_recipe_is_key(const char *key, size_t n, const char *const *list);

#endif

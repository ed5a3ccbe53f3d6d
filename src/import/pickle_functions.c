/* pickle_functions.c -- what a pickle calls: told by name, never executed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/pickle_functions.h"

#include <stdbool.h>

#include "import/pickle_stack.h"

static const struct {
    const char *module, *name;
} known[N_FUNCTIONS] = {
    [F_DICT] = {"collections", "OrderedDict"},
    [F_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [F_PARAMETER] = {"torch._utils", "_rebuild_parameter"},
    [F_F32] = {"torch", "FloatStorage"},
    [F_F16] = {"torch", "HalfStorage"},
    [F_BF16] = {"torch", "BFloat16Storage"},
};

/* What only an attack has a use for; name NULL: any. */
static const struct {
    const char *module, *name;
} hostile[] = {
    {"os", NULL},
    {"posix", NULL},
    {"nt", NULL},
    {"sys", NULL},
    {"subprocess", NULL},
    {"runpy", NULL},
    {"importlib", NULL},
    {"socket", NULL},
    {"shutil", NULL},
    {"pty", NULL},
    {"ctypes", NULL},
    {"webbrowser", NULL},
    {"builtins", "eval"},
    {"builtins", "exec"},
    {"builtins", "compile"},
    {"builtins", "open"},
    {"builtins", "__import__"},
    {"__builtin__", "eval"},
    {"__builtin__", "exec"},
    {"__builtin__", "execfile"},
    {"__builtin__", "compile"},
    {"__builtin__", "open"},
    {"__builtin__", "__import__"},
};

static bool is_text(const struct value *value, const char *text)
{
    return value->kind == K_TEXT && pickle_text_is(&value->text, text);
}

static enum status check_hostile(const struct value *module,
                                 const struct value *name)
{
    char shown[2][PRINTABLE_CHARS];
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        if (is_text(module, hostile[i].module) &&
            (!hostile[i].name || is_text(name, hostile[i].name)))
            return fail(E_MODEL,
                        "the pickle names %s.%s, which a checkpoint has no "
                        "use for: none of it was executed",
                        pickle_show(shown[0], &module->text),
                        pickle_show(shown[1], &name->text));
    }
    return OK;
}

enum status pickle_push_function(struct pickle_machine *m,
                                 const struct value *module,
                                 const struct value *name)
{
    struct value value = {.kind = K_FUNCTION};
    value.function.id = F_OTHER;
    value.function.module = module->text;
    value.function.name = name->text;
    TRY(check_hostile(module, name));
    for (int i = 0; i < N_FUNCTIONS; i++) {
        if (is_text(module, known[i].module) && is_text(name, known[i].name))
            value.function.id = (enum function)i;
    }
    return pickle_push(m, value);
}

/* ---- calls -------------------------------------------------------------- */

/* Pushes the result of a function that we do not know. */
static enum status push_object(struct pickle_machine *m,
                               const struct value *function)
{
    struct value object = *function;
    object.kind = K_OBJECT;
    return pickle_push(m, object);
}

static bool is_tensor(const struct pickle_machine *m, const struct value *made)
{
    int n = made->tuple.n;
    return (n == 6 || n == 7) && pickle_item(m, made, 0)->kind == K_STORAGE &&
           pickle_item(m, made, 1)->kind == K_INT &&
           pickle_item(m, made, 2)->kind == K_TUPLE &&
           pickle_item(m, made, 3)->kind == K_TUPLE;
}

/* made: the arguments, which become a value of another kind. */
static enum status call_known(struct pickle_machine *m, enum function function,
                              struct value made)
{
    if (function == F_DICT && made.tuple.n == 0)
        return pickle_push_empty(m, K_DICT);
    if (function == F_TENSOR && is_tensor(m, &made)) {
        made.kind = K_TENSOR;
        return pickle_push(m, made);
    }
    if (function == F_PARAMETER && made.tuple.n == 3 &&
        pickle_item(m, &made, 0)->kind == K_TENSOR)
        return pickle_push(m, *pickle_item(m, &made, 0));
    return fail(E_MODEL, "the pickle calls a function with arguments that it "
                         "does not take");
}

enum status pickle_call(struct pickle_machine *m)
{
    int arguments, function;
    TRY(pickle_pop_kind(m, &arguments, K_TUPLE));
    TRY(pickle_pop(m, &function));
    struct value called = m->values[function];
    if (called.kind == K_FUNCTION && called.function.id != F_OTHER)
        return call_known(m, called.function.id, m->values[arguments]);
    if (called.kind == K_FUNCTION || called.kind == K_OBJECT)
        return push_object(m, &called);
    return fail(E_MODEL, "the pickle has %s where %s belongs",
                value_kind_name(called.kind), value_kind_name(K_FUNCTION));
}

enum status pickle_make_storage(struct pickle_machine *m)
{
    int id;
    TRY(pickle_pop_kind(m, &id, K_TUPLE));
    struct value storage = m->values[id];
    int n = storage.tuple.n;
    bool has_view = n == 6 && pickle_item(m, &storage, 5)->kind != K_NONE;
    if ((n != 5 && n != 6) || has_view ||
        !is_text(pickle_item(m, &storage, 0), "storage") ||
        pickle_item(m, &storage, 1)->kind != K_FUNCTION ||
        pickle_item(m, &storage, 2)->kind != K_TEXT ||
        pickle_item(m, &storage, 4)->kind != K_INT)
        return fail(E_MODEL, "the pickle has a malformed storage");
    storage.kind = K_STORAGE;
    return pickle_push(m, storage);
}

enum status pickle_take_state(struct pickle_machine *m)
{
    int state;
    TRY(pickle_pop(m, &state));
    enum value_kind kind =
        m->stack.n > 0 ? m->values[m->stack.at[m->stack.n - 1]].kind : K_MARK;
    if (kind == K_DICT || kind == K_OBJECT)
        return OK;
    return fail(E_MODEL,
                "the pickle sets the state of something that is not a dict");
}

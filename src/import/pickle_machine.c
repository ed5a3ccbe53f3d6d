/* pickle_machine.c -- the stack machine that a pickle is a program for.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/pickle_machine.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "base/printable.h"

enum { VALUES_MAX = 1 << 20 };

static const char *const kind_names[] = {
    "a mark",  "None",   "a truth value", "a number",  "a string",
    "a tuple", "a dict", "a function",    "a storage", "a tensor"};

static const char *const global_names[N_GLOBALS][2] = {
    [G_DICT] = {"collections", "OrderedDict"},
    [G_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [G_PARAMETER] = {"torch._utils", "_rebuild_parameter"},
    [G_F32] = {"torch", "FloatStorage"},
    [G_F16] = {"torch", "HalfStorage"},
    [G_BF16] = {"torch", "BFloat16Storage"},
};

const char *value_kind_name(enum value_kind kind)
{
    return kind_names[kind];
}

/* ---- memory ------------------------------------------------------------- */

/* Makes room for one more of the n elements. */
static enum status reserve(void **array, int *room, int n, size_t size)
{
    if (n < *room)
        return OK;
    if (n >= VALUES_MAX)
        return fail(E_MODEL, "the pickle has more than %d values", VALUES_MAX);
    int more = *room > 0 ? 2 * *room : 256;
    void *grown = realloc(*array, (size_t)more * size);
    if (!grown)
        return fail_memory("a pickle");
    *array = grown;
    *room = more;
    return OK;
}

static enum status append(struct index_list *list, int value)
{
    void *at = list->at;
    TRY(reserve(&at, &list->room, list->n, sizeof *list->at));
    list->at = at;
    list->at[list->n++] = value;
    return OK;
}

static enum status push(struct pickle_machine *m, struct value value)
{
    void *values = m->values;
    TRY(reserve(&values, &m->values_room, m->n_values, sizeof *m->values));
    m->values = values;
    m->values[m->n_values] = value;
    return append(&m->stack, m->n_values++);
}

static enum status pop(struct pickle_machine *m, int *value)
{
    *value = NO_VALUE;
    if (m->stack.n == 0)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    *value = m->stack.at[--m->stack.n];
    return OK;
}

static enum status pop_kind(struct pickle_machine *m, int *value,
                            enum value_kind kind)
{
    TRY(pop(m, value));
    enum value_kind found = m->values[*value].kind;
    if (found != kind)
        return fail(E_MODEL, "the pickle has %s where %s belongs",
                    kind_names[found], kind_names[kind]);
    return OK;
}

/* The place of the topmost mark. */
static enum status find_mark(const struct pickle_machine *m, int *place)
{
    for (int i = m->stack.n; i-- > 0;) {
        *place = i;
        if (m->values[m->stack.at[i]].kind == K_MARK)
            return OK;
    }
    return fail(E_MODEL, "the pickle has an end without a begin");
}

/* ---- operands ----------------------------------------------------------- */

static enum status take_bytes(struct pickle_machine *m, const uint8_t **bytes,
                              uint64_t n)
{
    if (n > (uint64_t)(m->end - m->at))
        return fail(E_MODEL, "the pickle ends in the middle");
    *bytes = m->at;
    m->at += n;
    return OK;
}

/* Without a sign. */
static enum status take_number(struct pickle_machine *m, uint64_t *number,
                               int n_bytes)
{
    const uint8_t *bytes = NULL;
    TRY(take_bytes(m, &bytes, (uint64_t)n_bytes));
    *number = load_le(bytes, n_bytes);
    return OK;
}

static enum status push_number(struct pickle_machine *m, int n_bytes,
                               bool has_sign)
{
    uint64_t number;
    TRY(take_number(m, &number, n_bytes));
    int64_t value = (int64_t)number;
    if (has_sign && number >> (8 * n_bytes - 1))
        value -= (int64_t)1 << 8 * n_bytes;
    return push(m, (struct value){.kind = K_INT, .number = value});
}

/* LONG1: a length, then so many bytes in two's complement. */
static enum status push_long(struct pickle_machine *m)
{
    uint64_t n;
    TRY(take_number(m, &n, 1));
    if (n > 7)
        return fail(E_MODEL, "the pickle has a number of %d bytes", (int)n);
    if (n == 0)
        return push(m, (struct value){.kind = K_INT});
    return push_number(m, (int)n, true);
}

static enum status push_text(struct pickle_machine *m, int length_bytes)
{
    uint64_t n;
    const uint8_t *bytes = NULL;
    TRY(take_number(m, &n, length_bytes));
    TRY(take_bytes(m, &bytes, n));
    struct value value = {.kind = K_TEXT};
    value.text.at = (const char *)bytes;
    value.text.n = (size_t)n;
    return push(m, value);
}

static enum status take_line(struct pickle_machine *m, struct value *text)
{
    const uint8_t *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!end)
        return fail(E_MODEL, "the pickle ends in the middle");
    *text = (struct value){.kind = K_TEXT};
    text->text.at = (const char *)m->at;
    text->text.n = (size_t)(end - m->at);
    m->at = end + 1;
    return OK;
}

static bool is_text(const struct value *value, const char *text)
{
    return value->kind == K_TEXT && value->text.n == strlen(text) &&
           memcmp(value->text.at, text, value->text.n) == 0;
}

const char *pickle_show(char shown[PRINTABLE_CHARS], const struct value *text)
{
    return printable_start(shown, text->text.at, text->text.n);
}

/* ---- opcodes ------------------------------------------------------------ */

static enum status push_global(struct pickle_machine *m,
                               const struct value *module,
                               const struct value *name)
{
    for (int i = 0; i < N_GLOBALS; i++) {
        if (is_text(module, global_names[i][0]) &&
            is_text(name, global_names[i][1]))
            return push(m, (struct value){.kind = K_GLOBAL, .global = i});
    }
    char shown[2][PRINTABLE_CHARS];
    return fail(E_MODEL,
                "the pickle names %s.%s, which a state dict of F32, F16 or "
                "BF16 tensors has no use for: nothing of it was executed",
                pickle_show(shown[0], module), pickle_show(shown[1], name));
}

static enum status do_global(struct pickle_machine *m)
{
    struct value module, name;
    TRY(take_line(m, &module));
    TRY(take_line(m, &name));
    return push_global(m, &module, &name);
}

static enum status do_stack_global(struct pickle_machine *m)
{
    int module, name;
    TRY(pop_kind(m, &name, K_TEXT));
    TRY(pop_kind(m, &module, K_TEXT));
    struct value module_text = m->values[module], name_text = m->values[name];
    return push_global(m, &module_text, &name_text);
}

/* Replaces the n values on top by a tuple of them. */
static enum status make_tuple(struct pickle_machine *m, int n)
{
    if (m->stack.n < n)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    struct value tuple = {.kind = K_TUPLE};
    tuple.tuple.first = m->items.n;
    tuple.tuple.n = n;
    m->stack.n -= n;
    for (int i = 0; i < n; i++)
        TRY(append(&m->items, m->stack.at[m->stack.n + i]));
    return push(m, tuple);
}

/* Replaces the mark and the values above it by a tuple of these. */
static enum status do_tuple(struct pickle_machine *m)
{
    int mark = 0;
    TRY(find_mark(m, &mark));
    TRY(make_tuple(m, m->stack.n - mark - 1));
    int tuple = 0, unused;
    TRY(pop(m, &tuple));
    TRY(pop(m, &unused));
    return append(&m->stack, tuple);
}

static enum status add_entry(struct pickle_machine *m, int dict, int key,
                             int value)
{
    void *entries = m->entries;
    TRY(reserve(&entries, &m->entries_room, m->n_entries, sizeof *m->entries));
    m->entries = entries;
    int new = m->n_entries++;
    m->entries[new] = (struct dict_entry){key, value, NO_VALUE};
    struct value *d = &m->values[dict];
    if (d->dict.last == NO_VALUE)
        d->dict.first = new;
    else
        m->entries[d->dict.last].next = new;
    d->dict.last = new;
    return OK;
}

/* Puts the pairs from first on into the dict at place. */
static enum status set_items(struct pickle_machine *m, int place, int first)
{
    int n = m->stack.n - first,
        dict = place < 0 ? NO_VALUE : m->stack.at[place];
    if (dict == NO_VALUE || m->values[dict].kind != K_DICT || n % 2 != 0)
        return fail(E_MODEL, "the pickle fills what is not a dict");
    for (int i = first; i < first + n; i += 2)
        TRY(add_entry(m, dict, m->stack.at[i], m->stack.at[i + 1]));
    m->stack.n = place + 1;
    return OK;
}

static enum status do_set_items(struct pickle_machine *m)
{
    int mark = 0;
    TRY(find_mark(m, &mark));
    return set_items(m, mark - 1, mark + 1);
}

static enum status push_dict(struct pickle_machine *m)
{
    struct value dict = {.kind = K_DICT};
    dict.dict.first = dict.dict.last = NO_VALUE;
    return push(m, dict);
}

const struct value *pickle_item(const struct pickle_machine *m,
                                const struct value *v, int i)
{
    return &m->values[m->items.at[v->tuple.first + i]];
}

/* Replaces function and arguments by what the call would return: a dict, or the
 * arguments as a value of another kind. */
static enum status do_reduce(struct pickle_machine *m)
{
    int arguments, function;
    TRY(pop_kind(m, &arguments, K_TUPLE));
    TRY(pop_kind(m, &function, K_GLOBAL));
    struct value made = m->values[arguments];
    int n = made.tuple.n;
    switch (m->values[function].global) {
    case G_DICT:
        if (n == 0)
            return push_dict(m);
        break;
    case G_TENSOR:
        made.kind = K_TENSOR;
        if ((n == 6 || n == 7) && pickle_item(m, &made, 0)->kind == K_STORAGE &&
            pickle_item(m, &made, 1)->kind == K_INT &&
            pickle_item(m, &made, 2)->kind == K_TUPLE &&
            pickle_item(m, &made, 3)->kind == K_TUPLE)
            return push(m, made);
        break;
    case G_PARAMETER:
        if (n == 3 && pickle_item(m, &made, 0)->kind == K_TENSOR)
            return push(m, *pickle_item(m, &made, 0));
        break;
    default:
        break;
    }
    return fail(E_MODEL, "the pickle calls a function with arguments that it "
                         "does not take");
}

/* ('storage', type, key, location, elements) */
static enum status do_persistent_id(struct pickle_machine *m)
{
    int id;
    TRY(pop_kind(m, &id, K_TUPLE));
    struct value storage = m->values[id];
    if (storage.tuple.n != 5 ||
        !is_text(pickle_item(m, &storage, 0), "storage") ||
        pickle_item(m, &storage, 1)->kind != K_GLOBAL ||
        pickle_item(m, &storage, 1)->global < G_F32 ||
        pickle_item(m, &storage, 2)->kind != K_TEXT ||
        pickle_item(m, &storage, 4)->kind != K_INT)
        return fail(E_MODEL, "the pickle has a storage that is not one of "
                             "floats");
    storage.kind = K_STORAGE;
    return push(m, storage);
}

/* PyTorch attaches the versions of its modules to the dict: not used here. */
static enum status do_build(struct pickle_machine *m)
{
    int state;
    TRY(pop(m, &state));
    if (m->stack.n == 0 ||
        m->values[m->stack.at[m->stack.n - 1]].kind != K_DICT)
        return fail(E_MODEL, "the pickle sets the state of what is not a dict");
    return OK;
}

static enum status put_memo(struct pickle_machine *m, uint64_t index)
{
    if (m->stack.n == 0)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    if (index > (uint64_t)m->memo.n)
        return fail(E_MODEL, "the pickle leaves gaps in its memory");
    int value = m->stack.at[m->stack.n - 1];
    if (index == (uint64_t)m->memo.n)
        return append(&m->memo, value);
    m->memo.at[index] = value;
    return OK;
}

static enum status put_memo_at(struct pickle_machine *m, int n_bytes)
{
    uint64_t index;
    TRY(take_number(m, &index, n_bytes));
    return put_memo(m, index);
}

static enum status get_memo(struct pickle_machine *m, int n_bytes)
{
    uint64_t index;
    TRY(take_number(m, &index, n_bytes));
    if (index >= (uint64_t)m->memo.n)
        return fail(E_MODEL, "the pickle recalls what it never kept");
    return append(&m->stack, m->memo.at[index]);
}

static enum status push_kind(struct pickle_machine *m, enum value_kind kind)
{
    return push(m, (struct value){.kind = kind});
}

static enum status skip(struct pickle_machine *m, int n_bytes)
{
    const uint8_t *bytes;
    return take_bytes(m, &bytes, (uint64_t)n_bytes);
}

static enum status execute(struct pickle_machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return skip(m, 1);
    case 0x95: /* FRAME */
        return skip(m, 8);
    case '(':
        return push_kind(m, K_MARK);
    case 'N':
        return push_kind(m, K_NONE);
    case 0x88: /* True */
    case 0x89: /* False */
        return push_kind(m, K_BOOL);
    case 'K':
        return push_number(m, 1, false);
    case 'M':
        return push_number(m, 2, false);
    case 'J':
        return push_number(m, 4, true);
    case 0x8a: /* LONG1 */
        return push_long(m);
    case 'X':
        return push_text(m, 4);
    case 0x8c: /* SHORT_BINUNICODE */
        return push_text(m, 1);
    case ')':
        return make_tuple(m, 0);
    case 0x85: /* TUPLE1 */
    case 0x86:
    case 0x87:
        return make_tuple(m, opcode - 0x84);
    case 't':
        return do_tuple(m);
    case '}':
        return push_dict(m);
    case 's':
        return set_items(m, m->stack.n - 3, m->stack.n - 2);
    case 'u':
        return do_set_items(m);
    case 'c':
        return do_global(m);
    case 0x93: /* STACK_GLOBAL */
        return do_stack_global(m);
    case 'Q':
        return do_persistent_id(m);
    case 'R':
        return do_reduce(m);
    case 'b':
        return do_build(m);
    case 'q':
        return put_memo_at(m, 1);
    case 'r':
        return put_memo_at(m, 4);
    case 0x94: /* MEMOIZE */
        return put_memo(m, (uint64_t)m->memo.n);
    case 'h':
        return get_memo(m, 1);
    case 'j':
        return get_memo(m, 4);
    default:
        return fail(E_MODEL,
                    "the pickle has opcode 0x%02x, which a state dict has no "
                    "use for",
                    opcode);
    }
}

enum status pickle_machine_run(struct pickle_machine *machine,
                               const uint8_t *bytes, size_t n, int *root)
{
    struct pickle_machine *m = machine;
    *m = (struct pickle_machine){.at = bytes, .end = bytes + n};
    *root = NO_VALUE;
    while (m->at < m->end) {
        uint8_t opcode = *m->at++;
        if (opcode == '.')
            return pop_kind(m, root, K_DICT);
        TRY(execute(m, opcode));
    }
    return fail(E_MODEL, "the pickle ends in the middle");
}

void pickle_machine_free(struct pickle_machine *machine)
{
    free(machine->values);
    free(machine->entries);
    free(machine->stack.at);
    free(machine->items.at);
    free(machine->memo.at);
}

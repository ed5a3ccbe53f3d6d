/* pickle.c -- reads the pickle of a state dict, and executes nothing.
 *
 * Values live in one array and are known by their index; tuples are ranges
 * of a second array, entries of dicts are links in a third.  A value never
 * changes but for a dict, which grows.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/pickle.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"

enum { VALUES_MAX = 1 << 20, NONE = -1, TEXT_SHOWN = 64 };

enum kind {
    K_MARK,
    K_NONE,
    K_BOOL,
    K_INT,
    K_TEXT,
    K_TUPLE,
    K_DICT,
    K_GLOBAL,
    K_STORAGE, /* what a persistent id names                                */
    K_TENSOR
};

static const char *const kind_names[] = {
    "a mark",  "None",   "a truth value", "a number",  "a string",
    "a tuple", "a dict", "a function",    "a storage", "a tensor"};

/* The functions and types that we know. */
enum global { G_DICT, G_TENSOR, G_PARAMETER, G_F32, G_F16, G_BF16, N_GLOBALS };

static const char *const global_names[N_GLOBALS][2] = {
    [G_DICT] = {"collections", "OrderedDict"},
    [G_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [G_PARAMETER] = {"torch._utils", "_rebuild_parameter"},
    [G_F32] = {"torch", "FloatStorage"},
    [G_F16] = {"torch", "HalfStorage"},
    [G_BF16] = {"torch", "BFloat16Storage"},
};

struct value {
    enum kind kind;
    union {
        int64_t number;
        enum global global;
        struct {
            const char *at; /* in the pickle, without a NUL               */
            size_t n;
        } text;
        struct {
            int first, n; /* of the items: of a tuple, and of what made a
                           * storage or a tensor                          */
        } tuple;
        struct {
            int first, last; /* of the links, or NONE                     */
        } dict;
    };
};

struct link {
    int key, value, next;
};

struct list {
    int *at; /* [n] */
    int n, room;
};

struct reader {
    const uint8_t *at, *end;
    struct value *values; /* [n_values]                                    */
    int n_values, values_room;
    struct list stack, items, memo;
    struct link *links; /* [n_links]                                       */
    int n_links, links_room;
};

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

static enum status append(struct list *list, int value)
{
    void *at = list->at;
    TRY(reserve(&at, &list->room, list->n, sizeof *list->at));
    list->at = at;
    list->at[list->n++] = value;
    return OK;
}

static enum status push(struct reader *r, struct value value)
{
    void *values = r->values;
    TRY(reserve(&values, &r->values_room, r->n_values, sizeof *r->values));
    r->values = values;
    r->values[r->n_values] = value;
    return append(&r->stack, r->n_values++);
}

static enum status pop(struct reader *r, int *value)
{
    *value = NONE;
    if (r->stack.n == 0)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    *value = r->stack.at[--r->stack.n];
    return OK;
}

static enum status pop_kind(struct reader *r, int *value, enum kind kind)
{
    TRY(pop(r, value));
    enum kind found = r->values[*value].kind;
    if (found != kind)
        return fail(E_MODEL, "the pickle has %s where %s belongs",
                    kind_names[found], kind_names[kind]);
    return OK;
}

/* The place of the mark next to the top. */
static enum status find_mark(const struct reader *r, int *place)
{
    for (int i = r->stack.n; i-- > 0;) {
        *place = i;
        if (r->values[r->stack.at[i]].kind == K_MARK)
            return OK;
    }
    return fail(E_MODEL, "the pickle has an end without a begin");
}

/* ---- operands ----------------------------------------------------------- */

static enum status take_bytes(struct reader *r, const uint8_t **bytes,
                              uint64_t n)
{
    if (n > (uint64_t)(r->end - r->at))
        return fail(E_MODEL, "the pickle ends in the middle");
    *bytes = r->at;
    r->at += n;
    return OK;
}

/* Without a sign. */
static enum status take_number(struct reader *r, uint64_t *number, int n_bytes)
{
    const uint8_t *bytes = NULL;
    TRY(take_bytes(r, &bytes, (uint64_t)n_bytes));
    *number = load_le(bytes, n_bytes);
    return OK;
}

static enum status push_number(struct reader *r, int n_bytes, bool has_sign)
{
    uint64_t number;
    TRY(take_number(r, &number, n_bytes));
    int64_t value = (int64_t)number;
    if (has_sign && number >> (8 * n_bytes - 1))
        value -= (int64_t)1 << 8 * n_bytes;
    return push(r, (struct value){.kind = K_INT, .number = value});
}

/* LONG1: a length, then so many bytes in two's complement. */
static enum status push_long(struct reader *r)
{
    uint64_t n;
    TRY(take_number(r, &n, 1));
    if (n > 7)
        return fail(E_MODEL, "the pickle has a number of %d bytes", (int)n);
    if (n == 0)
        return push(r, (struct value){.kind = K_INT});
    return push_number(r, (int)n, true);
}

static enum status push_text(struct reader *r, int length_bytes)
{
    uint64_t n;
    const uint8_t *bytes = NULL;
    TRY(take_number(r, &n, length_bytes));
    TRY(take_bytes(r, &bytes, n));
    struct value value = {.kind = K_TEXT};
    value.text.at = (const char *)bytes;
    value.text.n = (size_t)n;
    return push(r, value);
}

static enum status take_line(struct reader *r, struct value *text)
{
    const uint8_t *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    if (!end)
        return fail(E_MODEL, "the pickle ends in the middle");
    *text = (struct value){.kind = K_TEXT};
    text->text.at = (const char *)r->at;
    text->text.n = (size_t)(end - r->at);
    r->at = end + 1;
    return OK;
}

static bool is_text(const struct value *value, const char *text)
{
    return value->kind == K_TEXT && value->text.n == strlen(text) &&
           memcmp(value->text.at, text, value->text.n) == 0;
}

/* The begin of it with '?' for all that a terminal could mistake. */
static const char *show(char shown[TEXT_SHOWN], const struct value *text)
{
    size_t n = text->text.n < TEXT_SHOWN - 1 ? text->text.n : TEXT_SHOWN - 1;
    for (size_t i = 0; i < n; i++) {
        char c = text->text.at[i];
        shown[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    shown[n] = '\0';
    return shown;
}

/* ---- opcodes ------------------------------------------------------------ */

static enum status push_global(struct reader *r, const struct value *module,
                               const struct value *name)
{
    for (int i = 0; i < N_GLOBALS; i++) {
        if (is_text(module, global_names[i][0]) &&
            is_text(name, global_names[i][1]))
            return push(r, (struct value){.kind = K_GLOBAL, .global = i});
    }
    char shown[2][TEXT_SHOWN];
    return fail(E_MODEL,
                "the pickle names %s.%s, which a state dict of F32, F16 or "
                "BF16 tensors has no use for: nothing of it was executed",
                show(shown[0], module), show(shown[1], name));
}

static enum status do_global(struct reader *r)
{
    struct value module, name;
    TRY(take_line(r, &module));
    TRY(take_line(r, &name));
    return push_global(r, &module, &name);
}

static enum status do_stack_global(struct reader *r)
{
    int module, name;
    TRY(pop_kind(r, &name, K_TEXT));
    TRY(pop_kind(r, &module, K_TEXT));
    struct value m = r->values[module], n = r->values[name];
    return push_global(r, &m, &n);
}

/* The n values on top become a tuple. */
static enum status make_tuple(struct reader *r, int n)
{
    if (r->stack.n < n)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    struct value tuple = {.kind = K_TUPLE};
    tuple.tuple.first = r->items.n;
    tuple.tuple.n = n;
    r->stack.n -= n;
    for (int i = 0; i < n; i++)
        TRY(append(&r->items, r->stack.at[r->stack.n + i]));
    return push(r, tuple);
}

/* Those above the mark do. */
static enum status do_tuple(struct reader *r)
{
    int mark = 0;
    TRY(find_mark(r, &mark));
    TRY(make_tuple(r, r->stack.n - mark - 1));
    int tuple = 0, unused;
    TRY(pop(r, &tuple));
    TRY(pop(r, &unused));
    return append(&r->stack, tuple);
}

static enum status add_entry(struct reader *r, int dict, int key, int value)
{
    void *links = r->links;
    TRY(reserve(&links, &r->links_room, r->n_links, sizeof *r->links));
    r->links = links;
    int new = r->n_links++;
    r->links[new] = (struct link){key, value, NONE};
    struct value *d = &r->values[dict];
    if (d->dict.last == NONE)
        d->dict.first = new;
    else
        r->links[d->dict.last].next = new;
    d->dict.last = new;
    return OK;
}

/* The pairs from place on go into the dict before first. */
static enum status set_items(struct reader *r, int place, int first)
{
    int n = r->stack.n - first, dict = place < 0 ? NONE : r->stack.at[place];
    if (dict == NONE || r->values[dict].kind != K_DICT || n % 2 != 0)
        return fail(E_MODEL, "the pickle fills what is not a dict");
    for (int i = first; i < first + n; i += 2)
        TRY(add_entry(r, dict, r->stack.at[i], r->stack.at[i + 1]));
    r->stack.n = place + 1;
    return OK;
}

static enum status do_set_items(struct reader *r)
{
    int mark = 0;
    TRY(find_mark(r, &mark));
    return set_items(r, mark - 1, mark + 1);
}

static enum status push_dict(struct reader *r)
{
    struct value dict = {.kind = K_DICT};
    dict.dict.first = dict.dict.last = NONE;
    return push(r, dict);
}

static const struct value *item(const struct reader *r, const struct value *v,
                                int i)
{
    return &r->values[r->items.at[v->tuple.first + i]];
}

/* function(arguments) becomes what the function would make: a dict, or the
 * arguments under another name. */
static enum status do_reduce(struct reader *r)
{
    int arguments, function;
    TRY(pop_kind(r, &arguments, K_TUPLE));
    TRY(pop_kind(r, &function, K_GLOBAL));
    struct value made = r->values[arguments];
    int n = made.tuple.n;
    switch (r->values[function].global) {
    case G_DICT:
        if (n == 0)
            return push_dict(r);
        break;
    case G_TENSOR:
        made.kind = K_TENSOR;
        if ((n == 6 || n == 7) && item(r, &made, 0)->kind == K_STORAGE &&
            item(r, &made, 1)->kind == K_INT &&
            item(r, &made, 2)->kind == K_TUPLE &&
            item(r, &made, 3)->kind == K_TUPLE)
            return push(r, made);
        break;
    case G_PARAMETER:
        if (n == 3 && item(r, &made, 0)->kind == K_TENSOR)
            return push(r, *item(r, &made, 0));
        break;
    default:
        break;
    }
    return fail(E_MODEL, "the pickle calls a function with arguments that it "
                         "does not take");
}

/* ('storage', type, key, location, elements) */
static enum status do_persistent_id(struct reader *r)
{
    int id;
    TRY(pop_kind(r, &id, K_TUPLE));
    struct value storage = r->values[id];
    if (storage.tuple.n != 5 || !is_text(item(r, &storage, 0), "storage") ||
        item(r, &storage, 1)->kind != K_GLOBAL ||
        item(r, &storage, 1)->global < G_F32 ||
        item(r, &storage, 2)->kind != K_TEXT ||
        item(r, &storage, 4)->kind != K_INT)
        return fail(E_MODEL, "the pickle has a storage that is not one of "
                             "floats");
    storage.kind = K_STORAGE;
    return push(r, storage);
}

/* OrderedDict keeps versions of its modules so: of no use here. */
static enum status do_build(struct reader *r)
{
    int state;
    TRY(pop(r, &state));
    if (r->stack.n == 0 ||
        r->values[r->stack.at[r->stack.n - 1]].kind != K_DICT)
        return fail(E_MODEL, "the pickle sets the state of what is no dict");
    return OK;
}

static enum status put_memo(struct reader *r, uint64_t index)
{
    if (r->stack.n == 0)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    if (index > (uint64_t)r->memo.n)
        return fail(E_MODEL, "the pickle leaves gaps in its memory");
    int value = r->stack.at[r->stack.n - 1];
    if (index == (uint64_t)r->memo.n)
        return append(&r->memo, value);
    r->memo.at[index] = value;
    return OK;
}

static enum status put_memo_at(struct reader *r, int n_bytes)
{
    uint64_t index;
    TRY(take_number(r, &index, n_bytes));
    return put_memo(r, index);
}

static enum status get_memo(struct reader *r, int n_bytes)
{
    uint64_t index;
    TRY(take_number(r, &index, n_bytes));
    if (index >= (uint64_t)r->memo.n)
        return fail(E_MODEL, "the pickle recalls what it never kept");
    return append(&r->stack, r->memo.at[index]);
}

static enum status push_kind(struct reader *r, enum kind kind)
{
    return push(r, (struct value){.kind = kind});
}

static enum status skip(struct reader *r, int n_bytes)
{
    const uint8_t *bytes;
    return take_bytes(r, &bytes, (uint64_t)n_bytes);
}

static enum status execute(struct reader *r, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return skip(r, 1);
    case 0x95: /* FRAME */
        return skip(r, 8);
    case '(':
        return push_kind(r, K_MARK);
    case 'N':
        return push_kind(r, K_NONE);
    case 0x88: /* True */
    case 0x89: /* False */
        return push_kind(r, K_BOOL);
    case 'K':
        return push_number(r, 1, false);
    case 'M':
        return push_number(r, 2, false);
    case 'J':
        return push_number(r, 4, true);
    case 0x8a: /* LONG1 */
        return push_long(r);
    case 'X':
        return push_text(r, 4);
    case 0x8c: /* SHORT_BINUNICODE */
        return push_text(r, 1);
    case ')':
        return make_tuple(r, 0);
    case 0x85: /* TUPLE1 */
    case 0x86:
    case 0x87:
        return make_tuple(r, opcode - 0x84);
    case 't':
        return do_tuple(r);
    case '}':
        return push_dict(r);
    case 's':
        return set_items(r, r->stack.n - 3, r->stack.n - 2);
    case 'u':
        return do_set_items(r);
    case 'c':
        return do_global(r);
    case 0x93: /* STACK_GLOBAL */
        return do_stack_global(r);
    case 'Q':
        return do_persistent_id(r);
    case 'R':
        return do_reduce(r);
    case 'b':
        return do_build(r);
    case 'q':
        return put_memo_at(r, 1);
    case 'r':
        return put_memo_at(r, 4);
    case 0x94: /* MEMOIZE */
        return put_memo(r, (uint64_t)r->memo.n);
    case 'h':
        return get_memo(r, 1);
    case 'j':
        return get_memo(r, 4);
    default:
        return fail(E_MODEL,
                    "the pickle has opcode 0x%02x, which a state dict has no "
                    "use for",
                    opcode);
    }
}

/* Up to the full stop; *root is what is left. */
static enum status run(struct reader *r, int *root)
{
    while (r->at < r->end) {
        uint8_t opcode = *r->at++;
        if (opcode == '.')
            return pop_kind(r, root, K_DICT);
        TRY(execute(r, opcode));
    }
    return fail(E_MODEL, "the pickle ends in the middle");
}

/* ---- tensors ------------------------------------------------------------ */

static enum status read_sizes(const struct reader *r, uint64_t *sizes,
                              const struct value *tuple, const char *name)
{
    for (int i = 0; i < tuple->tuple.n; i++) {
        const struct value *size = item(r, tuple, i);
        if (size->kind != K_INT || size->number < 0)
            return fail(E_MODEL,
                        "%s has a shape or strides that are no whole "
                        "numbers",
                        name);
        sizes[i] = (uint64_t)size->number;
    }
    return OK;
}

static enum status read_storage(const struct reader *r,
                                struct pickled_tensor *t,
                                const struct value *storage)
{
    static const enum dtype dtypes[] = {
        [G_F32] = DTYPE_F32, [G_F16] = DTYPE_F16, [G_BF16] = DTYPE_BF16};
    const struct value *key = item(r, storage, 2), *n = item(r, storage, 4);
    bool is_key = key->text.n > 0 && key->text.n < STORAGE_KEY_CHARS;
    for (size_t i = 0; is_key && i < key->text.n; i++)
        is_key = key->text.at[i] >= '0' && key->text.at[i] <= '9';
    if (!is_key || n->number < 0)
        return fail(E_MODEL, "%s has a storage without a number", t->name);
    memcpy(t->key, key->text.at, key->text.n);
    t->dtype = dtypes[item(r, storage, 1)->global];
    t->n_storage = (uint64_t)n->number;
    return OK;
}

static enum status read_tensor(const struct reader *r, struct pickled_tensor *t,
                               const struct value *tensor)
{
    const struct value *offset = item(r, tensor, 1);
    const struct value *shape = item(r, tensor, 2);
    const struct value *stride = item(r, tensor, 3);
    t->n_dims = shape->tuple.n;
    if (t->n_dims > TENSOR_MAX_DIMS || stride->tuple.n != t->n_dims ||
        offset->number < 0)
        return fail(E_MODEL, "%s has %d dimensions and %d strides", t->name,
                    t->n_dims, stride->tuple.n);
    t->offset = (uint64_t)offset->number;
    TRY(read_sizes(r, t->shape, shape, t->name));
    TRY(read_sizes(r, t->stride, stride, t->name));
    return read_storage(r, t, item(r, tensor, 0));
}

static enum status read_entry(const struct reader *r, struct pickled *pickled,
                              const struct link *entry)
{
    const struct value *key = &r->values[entry->key];
    const struct value *value = &r->values[entry->value];
    char shown[TEXT_SHOWN];
    if (key->kind != K_TEXT)
        return fail(E_MODEL, "the pickle has an entry whose name is %s",
                    kind_names[key->kind]);
    if (value->kind != K_TENSOR)
        return fail(E_MODEL, "%s is %s, expected a tensor: not a state dict",
                    show(shown, key), kind_names[value->kind]);
    struct pickled_tensor *t = &pickled->tensors[pickled->n];
    t->name = strndup(show(shown, key), TEXT_SHOWN);
    if (!t->name)
        return fail_memory("a name");
    pickled->n++;
    return read_tensor(r, t, value);
}

static enum status read_entries(const struct reader *r, struct pickled *pickled,
                                int root)
{
    int first = r->values[root].dict.first;
    size_t n = 0;
    for (int i = first; i != NONE; i = r->links[i].next)
        n++;
    pickled->tensors = calloc(n + 1, sizeof *pickled->tensors);
    if (!pickled->tensors)
        return fail_memory("the list of tensors");
    for (int i = first; i != NONE; i = r->links[i].next)
        TRY(read_entry(r, pickled, &r->links[i]));
    return OK;
}

enum status pickle_read(struct pickled *pickled, const uint8_t *bytes, size_t n)
{
    *pickled = (struct pickled){0};
    if (n > PICKLE_BYTES_MAX)
        return fail(E_MODEL,
                    "the pickle has %zu bytes, at most %d are possible", n,
                    PICKLE_BYTES_MAX);
    struct reader r = {.at = bytes, .end = bytes + n};
    int root = NONE;
    enum status status = run(&r, &root);
    if (status == OK)
        status = read_entries(&r, pickled, root);
    free(r.values);
    free(r.links);
    free(r.stack.at);
    free(r.items.at);
    free(r.memo.at);
    if (status != OK)
        pickle_free(pickled);
    return status;
}

void pickle_free(struct pickled *pickled)
{
    for (size_t i = 0; i < pickled->n; i++)
        free(pickled->tensors[i].name);
    free(pickled->tensors);
    *pickled = (struct pickled){0};
}

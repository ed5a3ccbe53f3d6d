/* pickle_stack.c -- the values of a pickle machine, and its stack.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/pickle_stack.h"

#include <stdbool.h>
#include <stdlib.h>

enum { VALUES_MAX = 1 << 20 };

static const char *const kind_names[] = {
    "a mark",     "None",      "a truth value", "a number", "a number",
    "bytes",      "a string",  "a tuple",       "a list",   "a dict",
    "a function", "an object", "a storage",     "a tensor"};

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

enum status pickle_append(struct index_list *list, int value)
{
    void *at = list->at;
    TRY(reserve(&at, &list->room, list->n, sizeof *list->at));
    list->at = at;
    list->at[list->n++] = value;
    return OK;
}

enum status pickle_push(struct pickle_machine *m, struct value value)
{
    void *values = m->values;
    TRY(reserve(&values, &m->values_room, m->n_values, sizeof *m->values));
    m->values = values;
    m->values[m->n_values] = value;
    return pickle_append(&m->stack, m->n_values++);
}

enum status pickle_pop(struct pickle_machine *m, int *value)
{
    *value = NO_VALUE;
    if (m->stack.n == 0)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    *value = m->stack.at[--m->stack.n];
    return OK;
}

enum status pickle_pop_kind(struct pickle_machine *m, int *value,
                            enum value_kind kind)
{
    TRY(pickle_pop(m, value));
    return pickle_machine_expect(m, *value, kind);
}

/* The place of the topmost mark. */
enum status pickle_find_mark(const struct pickle_machine *m, int *place)
{
    for (int i = m->stack.n; i-- > 0;) {
        *place = i;
        if (m->values[m->stack.at[i]].kind == K_MARK)
            return OK;
    }
    return fail(E_MODEL, "the pickle has an end without a start");
}

/* ---- tuples, lists and dicts -------------------------------------------- */

/* Replaces the n values on top by a tuple of them. */
enum status pickle_make_tuple(struct pickle_machine *m, int n)
{
    if (m->stack.n < n)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    struct value tuple = {.kind = K_TUPLE};
    tuple.tuple.first = m->items.n;
    tuple.tuple.n = n;
    m->stack.n -= n;
    for (int i = 0; i < n; i++)
        TRY(pickle_append(&m->items, m->stack.at[m->stack.n + i]));
    return pickle_push(m, tuple);
}

/* Replaces the mark and the values above it by a tuple of these. */
enum status pickle_close_tuple(struct pickle_machine *m)
{
    int mark = 0;
    TRY(pickle_find_mark(m, &mark));
    TRY(pickle_make_tuple(m, m->stack.n - mark - 1));
    int tuple = 0, unused;
    TRY(pickle_pop(m, &tuple));
    TRY(pickle_pop(m, &unused));
    return pickle_append(&m->stack, tuple);
}

/* key: NO_VALUE in a list. */
static enum status add_entry(struct pickle_machine *m, int place, int key,
                             int value)
{
    void *entries = m->entries;
    TRY(reserve(&entries, &m->entries_room, m->n_entries, sizeof *m->entries));
    m->entries = entries;
    int new = m->n_entries++;
    m->entries[new] = (struct dict_entry){key, value, NO_VALUE};
    struct value *v = &m->values[place];
    if (v->dict.last == NO_VALUE)
        v->dict.first = new;
    else
        m->entries[v->dict.last].next = new;
    v->dict.last = new;
    return OK;
}

/* Finds the value to be filled: the one below the first that is put into it. */
static enum status find_filled(const struct pickle_machine *m, int place,
                               enum value_kind kind, int *value)
{
    *value = place < 0 ? NO_VALUE : m->stack.at[place];
    if (*value != NO_VALUE &&
        (m->values[*value].kind == kind || m->values[*value].kind == K_OBJECT))
        return OK;
    return fail(E_MODEL, "the pickle adds to something that is not %s",
                kind_names[kind]);
}

enum status pickle_set_items(struct pickle_machine *m, int place, int first)
{
    int n = m->stack.n - first, dict;
    TRY(find_filled(m, place, K_DICT, &dict));
    if (n % 2 != 0)
        return fail(E_MODEL, "the pickle has a name without a value");
    bool is_object = m->values[dict].kind == K_OBJECT;
    for (int i = first; i < first + n && !is_object; i += 2)
        TRY(add_entry(m, dict, m->stack.at[i], m->stack.at[i + 1]));
    m->stack.n = place + 1;
    return OK;
}

enum status pickle_add_items(struct pickle_machine *m, int place, int first)
{
    int list;
    TRY(find_filled(m, place, K_LIST, &list));
    bool is_object = m->values[list].kind == K_OBJECT;
    for (int i = first; i < m->stack.n && !is_object; i++)
        TRY(add_entry(m, list, NO_VALUE, m->stack.at[i]));
    m->stack.n = place + 1;
    return OK;
}

/* A list or dict. */
enum status pickle_push_empty(struct pickle_machine *m, enum value_kind kind)
{
    struct value value = {.kind = kind};
    value.dict.first = value.dict.last = NO_VALUE;
    return pickle_push(m, value);
}

const struct value *pickle_item(const struct pickle_machine *m,
                                const struct value *v, int i)
{
    return &m->values[m->items.at[v->tuple.first + i]];
}

/* pickle.c -- the tensors of a state dict, from its pickle.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/pickle.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "import/pickle_machine.h"
#include "import/state_dict.h"

static enum status read_sizes(const struct pickle_machine *m, uint64_t *sizes,
                              const struct value *tuple, const char *name)
{
    for (int i = 0; i < tuple->tuple.n; i++) {
        const struct value *size = pickle_item(m, tuple, i);
        if (size->kind != K_INT || size->number < 0)
            return fail(E_MODEL,
                        "%s has a shape or strides that are not "
                        "whole numbers",
                        name);
        sizes[i] = (uint64_t)size->number;
    }
    return OK;
}

static enum status read_storage(const struct pickle_machine *m,
                                struct pickled_tensor *t,
                                const struct value *storage)
{
    static const enum dtype dtypes[] = {
        [F_F32] = DTYPE_F32, [F_F16] = DTYPE_F16, [F_BF16] = DTYPE_BF16};
    const struct value *type = pickle_item(m, storage, 1);
    const struct value *key = pickle_item(m, storage, 2);
    const struct value *n = pickle_item(m, storage, 4);
    char shown[PRINTABLE_CHARS];
    if (type->function.id < F_F32 || type->function.id > F_BF16)
        return fail(E_MODEL, "%s is of %s, expected F32, F16 or BF16", t->name,
                    pickle_show(shown, &type->function.name));
    bool is_key = key->text.n > 0 && key->text.n < STORAGE_KEY_CHARS;
    for (size_t i = 0; is_key && i < key->text.n; i++)
        is_key = key->text.at[i] >= '0' && key->text.at[i] <= '9';
    if (!is_key || n->number < 0)
        return fail(E_MODEL, "%s has a storage without a number", t->name);
    memcpy(t->key, key->text.at, key->text.n);
    t->dtype = dtypes[type->function.id];
    t->n_storage = (uint64_t)n->number;
    return OK;
}

static enum status read_tensor(const struct pickle_machine *m,
                               struct pickled_tensor *t,
                               const struct value *tensor)
{
    const struct value *offset = pickle_item(m, tensor, 1);
    const struct value *shape = pickle_item(m, tensor, 2);
    const struct value *stride = pickle_item(m, tensor, 3);
    t->n_dims = shape->tuple.n;
    if (t->n_dims > TENSOR_MAX_DIMS || stride->tuple.n != t->n_dims ||
        offset->number < 0)
        return fail(E_MODEL, "%s has %d dimensions and %d strides", t->name,
                    t->n_dims, stride->tuple.n);
    t->offset = (uint64_t)offset->number;
    TRY(read_sizes(m, t->shape, shape, t->name));
    TRY(read_sizes(m, t->stride, stride, t->name));
    return read_storage(m, t, pickle_item(m, tensor, 0));
}

/* Printable ASCII, as in safetensors. */
static enum status read_name(char **name, const struct pickle_text *text)
{
    char shown[PRINTABLE_CHARS];
    size_t n = 0;
    while (n < text->n && is_printable(text->at[n]))
        n++;
    if (n < text->n || n == 0 || n > PICKLED_NAME_MAX)
        return fail(E_MODEL,
                    "%s..: a tensor's name is not 1 to %d printable ASCII "
                    "characters",
                    pickle_show(shown, text), PICKLED_NAME_MAX);
    *name = strndup(text->at, n);
    return *name ? OK : fail_memory("a name");
}

/* Anything but a tensor is left out. */
static enum status read_entry(const struct pickle_machine *m,
                              struct pickled *pickled,
                              const struct dict_entry *entry)
{
    const struct value *key = &m->values[entry->key];
    const struct value *value = &m->values[entry->value];
    if (key->kind != K_TEXT || value->kind != K_TENSOR)
        return OK;
    struct pickled_tensor *t = &pickled->tensors[pickled->n];
    TRY(read_name(&t->name, &key->text));
    pickled->n++;
    return read_tensor(m, t, value);
}

/* A dict without a tensor: its first entry says what it is. */
static enum status no_tensors(const struct pickle_machine *m, int dict)
{
    char shown[PRINTABLE_CHARS];
    int first = m->values[dict].dict.first;
    if (first == NO_VALUE)
        return fail(E_MODEL, "the pickle is an empty dict");
    const struct value *key = &m->values[m->entries[first].key];
    const struct value *value = &m->values[m->entries[first].value];
    if (key->kind != K_TEXT)
        return fail(E_MODEL,
                    "the pickle has an entry whose name is %s, and no "
                    "tensors: not a state dict",
                    value_kind_name(key->kind));
    return fail(E_MODEL, "%s is %s, expected a tensor: not a state dict",
                pickle_show(shown, &key->text), value_kind_name(value->kind));
}

static enum status read_entries(const struct pickle_machine *m,
                                struct pickled *pickled, int dict)
{
    int first = m->values[dict].dict.first;
    size_t n = 0;
    for (int i = first; i != NO_VALUE; i = m->entries[i].next)
        n++;
    pickled->tensors = calloc(n + 1, sizeof *pickled->tensors);
    if (!pickled->tensors)
        return fail_memory("the list of tensors");
    for (int i = first; i != NO_VALUE; i = m->entries[i].next)
        TRY(read_entry(m, pickled, &m->entries[i]));
    return pickled->n > 0 ? OK : no_tensors(m, dict);
}

enum status pickle_read_dict(struct pickled *pickled,
                             const struct pickle_machine *machine, int root)
{
    int dict;
    *pickled = (struct pickled){0};
    TRY(state_dict_find(machine, root, &dict));
    enum status status = read_entries(machine, pickled, dict);
    if (status != OK)
        pickle_free(pickled);
    return status;
}

enum status pickle_read(struct pickled *pickled, const uint8_t *bytes, size_t n)
{
    *pickled = (struct pickled){0};
    if (n > PICKLE_BYTES_MAX)
        return fail(E_MODEL,
                    "the pickle has %zu bytes, at most %d are possible", n,
                    PICKLE_BYTES_MAX);
    struct pickle_machine machine;
    int root;
    enum status status = pickle_machine_run(&machine, bytes, n, &root);
    if (status == OK)
        status = pickle_machine_expect(&machine, root, K_DICT);
    if (status == OK)
        status = pickle_read_dict(pickled, &machine, root);
    pickle_machine_free(&machine);
    return status;
}

void pickle_free(struct pickled *pickled)
{
    for (size_t i = 0; i < pickled->n; i++)
        free(pickled->tensors[i].name);
    free(pickled->tensors);
    *pickled = (struct pickled){0};
}

/* torch_legacy.c -- the files that torch.save made before PyTorch 1.6.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/torch_legacy.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "import/pickle_machine.h"

/* The pickle of the magic number, and that of version 1001. */
static const uint8_t magic[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a"
                               "\xa8\x50\x19.\x80\x02M\xe9\x03.";

enum { MAGIC_BYTES = TORCH_LEGACY_MAGIC_BYTES, COUNT_BYTES = 8 };

_Static_assert(sizeof magic == MAGIC_BYTES + 1, "a literal ends with NUL");

/* The pickles, as far as they have been read: bytes [at, n). */
struct pickles {
    uint8_t *bytes;
    size_t at, n;
};

/* Bytes of an element, by the name of a storage's type. */
static const struct {
    const char *name;
    uint64_t size;
} types[] = {
    {"FloatStorage", 4},        {"HalfStorage", 2},
    {"BFloat16Storage", 2},     {"DoubleStorage", 8},
    {"LongStorage", 8},         {"IntStorage", 4},
    {"ShortStorage", 2},        {"CharStorage", 1},
    {"ByteStorage", 1},         {"BoolStorage", 1},
    {"ComplexFloatStorage", 8}, {"ComplexDoubleStorage", 16},
};

bool torch_legacy_is(const uint8_t *bytes, size_t n)
{
    return n >= MAGIC_BYTES && memcmp(bytes, magic, MAGIC_BYTES) == 0;
}

/* ---- storages ----------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct legacy_storage *)a)->key,
                  ((const struct legacy_storage *)b)->key);
}

static enum status read_key(char key[STORAGE_KEY_CHARS],
                            const struct value *value)
{
    if (value->kind != K_TEXT || value->text.n >= STORAGE_KEY_CHARS)
        return fail(E_MODEL, "a storage has a malformed key");
    memcpy(key, value->text.at, value->text.n);
    key[value->text.n] = '\0';
    return OK;
}

static uint64_t size_of(const struct pickle_text *type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (pickle_text_is(type, types[i].name))
            return types[i].size;
    }
    return 0;
}

/* The storages that a pickle names, each with the size of an element in n. */
static enum status list_storages(struct torch_legacy *l,
                                 const struct pickle_machine *m)
{
    char shown[PRINTABLE_CHARS];
    l->storages = calloc((size_t)m->n_values + 1, sizeof *l->storages);
    if (!l->storages)
        return fail_memory("the storages");
    for (int i = 0; i < m->n_values; i++) {
        if (m->values[i].kind != K_STORAGE)
            continue;
        struct legacy_storage *storage = &l->storages[l->n++];
        const struct value *type = pickle_item(m, &m->values[i], 1);
        TRY(read_key(storage->key, pickle_item(m, &m->values[i], 2)));
        storage->n = size_of(&type->function.name);
        if (storage->n == 0)
            return fail(E_MODEL, "a storage is of an unknown type, %s",
                        pickle_show(shown, &type->function.name));
    }
    qsort(l->storages, l->n, sizeof *l->storages, compare);
    return OK;
}

static struct legacy_storage *find(const struct torch_legacy *l,
                                   const char *key)
{
    struct legacy_storage wanted = {.n = 0};
    memcpy(wanted.key, key, strlen(key) + 1);
    return bsearch(&wanted, l->storages, l->n, sizeof *l->storages, compare);
}

/* A storage at *offset, which moves on to the next. */
static enum status locate(struct torch_legacy *l, const char *key,
                          uint64_t *offset)
{
    struct legacy_storage *storage = find(l, key);
    uint8_t count[COUNT_BYTES];
    uint64_t n_bytes, end;
    size_t got;
    if (!storage || storage->offset > 0)
        return fail(E_MODEL, "the list of storages names one that no tensor "
                             "uses, or one twice");
    TRY(source_seek(&l->source, *offset));
    TRY(source_read_full(&l->source, count, sizeof count, &got));
    if (got < sizeof count ||
        __builtin_mul_overflow(load_le(count, COUNT_BYTES), storage->n,
                               &n_bytes) ||
        __builtin_add_overflow(*offset + COUNT_BYTES, n_bytes, &end) ||
        end > l->source.size)
        return fail(E_MODEL, "the file ends in the middle of storage %s", key);
    storage->offset = *offset + COUNT_BYTES;
    storage->n = n_bytes;
    *offset = end;
    return OK;
}

/* One key is in the pickle of each tensor that shares a storage. */
static void drop_doubles(struct torch_legacy *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (n == 0 || strcmp(l->storages[n - 1].key, l->storages[i].key) != 0)
            l->storages[n++] = l->storages[i];
    }
    l->n = n;
}

/* ---- pickles ------------------------------------------------------------ */

/* Runs the next pickle, whose root is of that kind; the machine is to be freed
 * after a failure too. */
static enum status run_next(struct pickle_machine *machine, int *root,
                            struct pickles *p, enum value_kind kind)
{
    TRY(pickle_machine_run(machine, p->bytes + p->at, p->n - p->at, root));
    TRY(pickle_machine_expect(machine, *root, kind));
    p->at = (size_t)(machine->at - p->bytes);
    return OK;
}

/* {"little_endian": True, ..} */
static enum status check_byte_order(const struct pickle_machine *m, int root)
{
    for (int i = m->values[root].dict.first; i != NO_VALUE;
         i = m->entries[i].next) {
        const struct value *key = &m->values[m->entries[i].key];
        const struct value *value = &m->values[m->entries[i].value];
        if (key->kind == K_TEXT &&
            pickle_text_is(&key->text, "little_endian") &&
            value->kind == K_BOOL && value->number != 0)
            return OK;
    }
    return fail(E_MODEL, "the file was saved on a big-endian machine");
}

static enum status read_system(struct pickles *p)
{
    struct pickle_machine machine;
    int root;
    enum status status = run_next(&machine, &root, p, K_DICT);
    if (status == OK)
        status = check_byte_order(&machine, root);
    pickle_machine_free(&machine);
    return status;
}

static enum status read_state_dict(struct torch_legacy *l, struct pickles *p,
                                   struct pickled *pickled)
{
    struct pickle_machine machine;
    int root;
    enum status status = run_next(&machine, &root, p, K_DICT);
    if (status == OK)
        status = pickle_read_dict(pickled, &machine, root);
    if (status == OK)
        status = list_storages(l, &machine);
    pickle_machine_free(&machine);
    drop_doubles(l);
    return status;
}

static enum status locate_all(struct torch_legacy *l, struct pickles *p)
{
    struct pickle_machine machine;
    int root;
    enum status status = run_next(&machine, &root, p, K_LIST);
    uint64_t offset = p->at;
    for (int i = status == OK ? machine.values[root].dict.first : NO_VALUE;
         i != NO_VALUE && status == OK; i = machine.entries[i].next) {
        char key[STORAGE_KEY_CHARS];
        status = read_key(key, &machine.values[machine.entries[i].value]);
        if (status == OK)
            status = locate(l, key, &offset);
    }
    pickle_machine_free(&machine);
    return status;
}

static enum status read_pickles(struct torch_legacy *l, struct pickles *p,
                                struct pickled *pickled)
{
    TRY(source_read_full(&l->source, p->bytes, p->n, &p->n));
    if (!torch_legacy_is(p->bytes, p->n))
        return fail(E_MODEL, "not a file of torch.save");
    p->at = MAGIC_BYTES;
    TRY(read_system(p));
    TRY(read_state_dict(l, p, pickled));
    return locate_all(l, p);
}

enum status torch_legacy_open(struct torch_legacy *legacy, const char *path,
                              struct pickled *pickled)
{
    *legacy = (struct torch_legacy){.n = 0};
    *pickled = (struct pickled){.n = 0};
    TRY(source_open(&legacy->source, path));
    struct pickles p = {.n = PICKLE_BYTES_MAX};
    if (legacy->source.size < p.n)
        p.n = (size_t)legacy->source.size;
    p.bytes = malloc(p.n + 1);
    if (!p.bytes)
        return fail_memory("the pickles");
    enum status status = read_pickles(legacy, &p, pickled);
    free(p.bytes);
    return status;
}

void torch_legacy_close(struct torch_legacy *legacy)
{
    source_close(&legacy->source);
    free(legacy->storages);
    legacy->storages = NULL;
}

enum status torch_legacy_read(struct torch_legacy *legacy, const char *key,
                              void **bytes, uint64_t *n)
{
    const struct legacy_storage *storage = find(legacy, key);
    size_t got = 0;
    *bytes = NULL;
    if (!storage || storage->offset == 0)
        return fail(E_MODEL, "the file has no storage %s", key);
    *n = storage->n;
    *bytes = malloc(storage->n > 0 ? (size_t)storage->n : 1);
    if (!*bytes)
        return fail_memory("a storage");
    enum status status = source_seek(&legacy->source, storage->offset);
    if (status == OK)
        status =
            source_read_full(&legacy->source, *bytes, (size_t)storage->n, &got);
    if (status == OK && got == storage->n)
        return OK;
    free(*bytes);
    *bytes = NULL;
    return status != OK ? status
                        : fail(E_MODEL, "the file ends in storage %s", key);
}

/* snapshot.c -- the state of one stream, to and from a file.
 *
 *      0  8   magic
 *      8  4   version of the format: 1, or 2 of a state that has int8
 *     12  4   flags, none defined
 *     16 16   fingerprint of the model
 *     32  8   bytes that the stream has read
 *     40  8   n, the number of floats
 *     48  8   version 2: m, the number of int8
 *         8   XXH3-64 of all before
 *       4 n   floats, binary32
 *         m   int8
 *         8   XXH3-64 of all before
 *
 * All little-endian.  The header has a checksum of its own, so that damage
 * is not taken for another model or another length.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/snapshot.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/atomic_file.h"
#include "base/byteio.h"
#include "base/exact.h"
#include "base/little_endian.h"
#include "base/text.h"

enum {
    VERSION = 2, /* the newest */
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_MODEL = 16,
    AT_N_BYTES = 32,
    AT_N_FLOATS = 40,
    AT_N_INT8S = 48, /* version 2 */
    CHECKSUM_BYTES = 8,
    MAGIC_BYTES = 8
};

/* The sizes of a file of n floats and m int8. */
struct extent {
    size_t n_floats, n_int8s;
    int version;
    size_t header; /* bytes, its checksum included */
    size_t file;
};

static struct extent extent_of(size_t n_floats, size_t n_int8s)
{
    struct extent x = {.n_floats = n_floats, .n_int8s = n_int8s};
    x.version = n_int8s > 0 ? 2 : 1;
    x.header = AT_N_FLOATS + 8 * (size_t)x.version + CHECKSUM_BYTES;
    x.file = x.header + 4 * n_floats + n_int8s + CHECKSUM_BYTES;
    return x;
}

/* ---- reading ---------------------------------------------------------- */

static bool has_checksum(const uint8_t *bytes, size_t n)
{
    return load_le(bytes + n, CHECKSUM_BYTES) == XXH3_64bits(bytes, n);
}

/* Checks all that does not depend on the model.  The shortest header has a
 * checksum, as the longest has. */
static enum status check_header(const uint8_t *bytes, size_t n)
{
    size_t n_magic = n < MAGIC_BYTES ? n : MAGIC_BYTES;
    size_t header = extent_of(0, 0).header;
    if (n == 0 || memcmp(bytes, SNAPSHOT_START, n_magic) != 0)
        return fail(E_FORMAT, "not a state snapshot");
    uint64_t version = n < header ? 0 : load_le(bytes + AT_VERSION, 4);
    if (version == 2)
        header = extent_of(0, 1).header;
    if (n < header)
        return fail(E_FORMAT, "state snapshot is truncated: %zu byte%s", n,
                    text_plural(n));
    if (version > VERSION)
        return fail(E_FORMAT,
                    "state snapshot has version %" PRIu64
                    " of the format, newer than this program's, %d",
                    version, VERSION);
    if (!has_checksum(bytes, header - CHECKSUM_BYTES))
        return fail(E_FORMAT, "state snapshot is damaged: checksum of the "
                              "header differs");
    if (version < 1 || load_le(bytes + AT_FLAGS, 4) != 0)
        return fail(E_FORMAT, "state snapshot has an unknown version or "
                              "unknown flags");
    return OK;
}

static enum status check_owner(const uint8_t *bytes,
                               const struct fingerprint *model,
                               const struct extent *x)
{
    struct fingerprint owner;
    memcpy(owner.bytes, bytes + AT_MODEL, sizeof owner.bytes);
    if (memcmp(owner.bytes, model->bytes, sizeof owner.bytes) != 0) {
        char fingerprint[FINGERPRINT_CHARS];
        fingerprint_text(fingerprint, &owner);
        return fail(E_FORMAT,
                    "state snapshot was made by another model, of fingerprint "
                    "%s (see --info)",
                    fingerprint);
    }
    uint64_t version = load_le(bytes + AT_VERSION, 4);
    uint64_t n = load_le(bytes + AT_N_FLOATS, 8);
    uint64_t m = version == 2 ? load_le(bytes + AT_N_INT8S, 8) : 0;
    if (n != x->n_floats || m != x->n_int8s || version != (uint64_t)x->version)
        return fail(E_FORMAT,
                    "state snapshot holds %" PRIu64
                    " numbers, the model's state has %zu",
                    n + m, x->n_floats + x->n_int8s);
    return OK;
}

static enum status check_body(const uint8_t *bytes, size_t n,
                              const struct extent *x)
{
    if (n < x->file)
        return fail(E_FORMAT,
                    "state snapshot is truncated: %zu bytes, expected %zu", n,
                    x->file);
    if (n > x->file)
        return fail(E_FORMAT, "state snapshot is followed by other bytes");
    if (!has_checksum(bytes, n - CHECKSUM_BYTES))
        return fail(E_FORMAT, "state snapshot is damaged: checksum differs");
    return OK;
}

enum status snapshot_parse(struct snapshot *snapshot, const uint8_t *bytes,
                           size_t n, const struct fingerprint *model,
                           size_t n_floats, size_t n_int8s)
{
    struct extent x = extent_of(n_floats, n_int8s);
    *snapshot = (struct snapshot){.floats = NULL};
    TRY(check_header(bytes, n));
    TRY(check_owner(bytes, model, &x));
    TRY(check_body(bytes, n, &x));

    float *floats = malloc(n_floats * sizeof *floats + n_int8s);
    if (!floats)
        return fail_memory("a state");
    const uint8_t *p = bytes + x.header;
    for (size_t i = 0; i < n_floats; i++, p += 4)
        floats[i] = exact_float((uint32_t)load_le(p, 4));
    memcpy(floats + n_floats, p, n_int8s);
    *snapshot = (struct snapshot){
        .model = *model,
        .n_bytes = load_le(bytes + AT_N_BYTES, 8),
        .n_floats = n_floats,
        .n_int8s = n_int8s,
        .floats = floats,
    };
    return OK;
}

/* Reads the file into bytes, [size]. */
static enum status load(struct snapshot *snapshot, struct source *source,
                        uint8_t *bytes, size_t size,
                        const struct fingerprint *model, size_t n_floats,
                        size_t n_int8s)
{
    size_t n;
    TRY(source_read_full(source, bytes, size, &n));
    enum status status =
        snapshot_parse(snapshot, bytes, n, model, n_floats, n_int8s);
    return status == OK ? OK : status_prefix(status, source->name);
}

enum status snapshot_load(struct snapshot *snapshot, const char *path,
                          const struct fingerprint *model, size_t n_floats,
                          size_t n_int8s)
{
    struct source source;
    *snapshot = (struct snapshot){.floats = NULL};
    TRY(source_open(&source, path));
    /* one more, to notice other bytes after it */
    size_t size = extent_of(n_floats, n_int8s).file + 1;
    uint8_t *bytes = malloc(size);
    enum status status =
        bytes ? load(snapshot, &source, bytes, size, model, n_floats, n_int8s)
              : fail_memory("a state");
    free(bytes);
    source_close(&source);
    return status;
}

bool snapshot_find_model(struct fingerprint *model, const uint8_t *bytes,
                         size_t n)
{
    if (n < AT_MODEL + sizeof model->bytes ||
        memcmp(bytes, SNAPSHOT_START, MAGIC_BYTES) != 0)
        return false;
    memcpy(model->bytes, bytes + AT_MODEL, sizeof model->bytes);
    return true;
}

void snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->floats);
    *snapshot = (struct snapshot){.floats = NULL};
}

/* ---- writing ---------------------------------------------------------- */

/* The whole file, [x->file], or NULL. */
static uint8_t *make_file(const struct snapshot *snapshot,
                          const struct extent *x)
{
    size_t header = x->header - CHECKSUM_BYTES, all = x->file - CHECKSUM_BYTES;
    uint8_t *bytes = malloc(x->file);
    if (!bytes)
        return NULL;
    memcpy(bytes, SNAPSHOT_START, MAGIC_BYTES);
    store_le(bytes + AT_VERSION, (uint64_t)x->version, 4);
    store_le(bytes + AT_FLAGS, 0, 4);
    memcpy(bytes + AT_MODEL, snapshot->model.bytes,
           sizeof snapshot->model.bytes);
    store_le(bytes + AT_N_BYTES, snapshot->n_bytes, 8);
    store_le(bytes + AT_N_FLOATS, x->n_floats, 8);
    if (x->version == 2)
        store_le(bytes + AT_N_INT8S, x->n_int8s, 8);
    store_le(bytes + header, XXH3_64bits(bytes, header), CHECKSUM_BYTES);
    uint8_t *p = bytes + x->header;
    for (size_t i = 0; i < x->n_floats; i++, p += 4)
        store_le(p, exact_bits(snapshot->floats[i]), 4);
    memcpy(p, snapshot->floats + x->n_floats, x->n_int8s);
    store_le(bytes + all, XXH3_64bits(bytes, all), CHECKSUM_BYTES);
    return bytes;
}

enum status snapshot_save(const char *path, const struct snapshot *snapshot)
{
    struct extent x = extent_of(snapshot->n_floats, snapshot->n_int8s);
    uint8_t *bytes = make_file(snapshot, &x);
    if (!bytes)
        return fail_memory("a state");
    enum status status = atomic_file_write(path, bytes, x.file);
    free(bytes);
    return status;
}

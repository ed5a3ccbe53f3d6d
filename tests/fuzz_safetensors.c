/* fuzz_safetensors.c -- any bytes as a safetensors file and as a model.
 *
 * What is accepted is read to its last byte, so that a sanitizer sees a
 * tensor that reaches beyond its file.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Keeps the compiler from leaving out a read. */
static volatile uint8_t last_seen;

static void read_tensor(const struct safetensors *file, size_t i)
{
    char text[160];
    const struct tensor *t = safetensors_at(file, i);
    if (safetensors_find(file, t->name) != t ||
        t->n_bytes != t->n_elements * dtype_size(t->dtype) ||
        strlen(tensor_describe(t, text)) >= sizeof text)
        abort();
    for (uint64_t k = 0; k < t->n_bytes; k++)
        last_seen = ((const uint8_t *)t->data)[k];
}

static void read_file(const struct safetensors *file, size_t n)
{
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        read_tensor(file, i);
        n_bytes += safetensors_at(file, i)->n_bytes;
    }
    if (n_bytes > n)
        abort();
    const char *key;
    for (size_t i = 0; (key = safetensors_metadata_key(file, i)); i++) {
        if (!safetensors_metadata(file, key))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct safetensors *file;
    struct model *model;
    struct fingerprint fingerprint;
    if (safetensors_open_memory(&file, "fuzz", bytes, n) == OK)
        read_file(file, n);
    safetensors_close(file);
    if (model_open_memory(&model, "fuzz", bytes, n) == OK)
        model_fingerprint(model, &fingerprint);
    model_close(model);
    return 0;
}

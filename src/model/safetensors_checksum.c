/* safetensors_checksum.c -- tells when a bit of a .safetensors file was
 * flipped.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/safetensors_checksum.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL /* so that its state may live on our stack */
#include <xxhash.h>

#include "base/little_endian.h"

/* ---- the hash ----------------------------------------------------------- */

static void hash_text(XXH3_state_t *hash, const char *text)
{
    XXH3_64bits_update(hash, text, strlen(text) + 1);
}

static void hash_tensor(XXH3_state_t *hash, const struct tensor *t)
{
    uint8_t size[8];
    hash_text(hash, t->name);
    for (int d = 0; d < t->n_dims; d++) {
        store_le(size, t->shape[d], sizeof size);
        XXH3_64bits_update(hash, size, sizeof size);
    }
    XXH3_64bits_update(hash, t->data,
                       (size_t)tensor_elements(t) * dtype_size(t->dtype));
}

void safetensors_checksum(char text[CHECKSUM_CHARS],
                          const struct safetensors_content *content)
{
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    for (size_t i = 0; i < content->n_metadata; i++) {
        if (strcmp(content->metadata[i].key, SAFETENSORS_CHECKSUM) == 0)
            continue;
        hash_text(&hash, content->metadata[i].key);
        hash_text(&hash, content->metadata[i].value);
    }
    for (size_t i = 0; i < content->n_tensors; i++)
        hash_tensor(&hash, &content->tensors[i]);
    snprintf(text, CHECKSUM_CHARS, "%016" PRIx64, XXH3_64bits_digest(&hash));
}

/* ---- of a file ---------------------------------------------------------- */

static enum status file_checksum(char text[CHECKSUM_CHARS],
                                 const struct safetensors *file)
{
    size_t n = safetensors_count(file), n_metadata = 0;
    while (safetensors_metadata_key(file, n_metadata))
        n_metadata++;
    struct tensor *tensors = calloc(n + 1, sizeof *tensors);
    struct metadata *metadata = calloc(n_metadata + 1, sizeof *metadata);
    bool has_room = tensors && metadata;
    for (size_t i = 0; has_room && i < n; i++)
        tensors[i] = *safetensors_at(file, i);
    for (size_t i = 0; has_room && i < n_metadata; i++) {
        metadata[i].key = safetensors_metadata_key(file, i);
        metadata[i].value = safetensors_metadata(file, metadata[i].key);
    }
    struct safetensors_content content = {metadata, n_metadata, tensors, n};
    if (has_room)
        safetensors_checksum(text, &content);
    free(tensors);
    free(metadata);
    return has_room ? OK : fail_memory("a checksum");
}

enum status safetensors_check_checksum(const struct safetensors *file,
                                       bool is_optional)
{
    char expected[CHECKSUM_CHARS];
    const char *text = safetensors_metadata(file, SAFETENSORS_CHECKSUM);
    if (!text && is_optional)
        return OK;
    TRY(file_checksum(expected, file));
    if (text && strcmp(text, expected) == 0)
        return OK;
    return fail(E_FORMAT, "the file is damaged: its checksum differs");
}

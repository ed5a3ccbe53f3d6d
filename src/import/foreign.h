/* foreign.h -- a checkpoint as others publish it: a folder or a file.
 *
 * Of a folder, the first of model.safetensors.index.json, model.safetensors,
 * pytorch_model.bin.index.json and pytorch_model.bin that is there is read.  A
 * file is recognised by its first bytes.  An index names the files (shards)
 * that hold the tensors.  A config.json beside them is read if it is there.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FOREIGN_H
#define MAMBYTE_FOREIGN_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"
#include "model/safetensors.h"

struct foreign {
    char *path;                   /* of the file or index: for messages */
    const struct tensor *tensors; /* [n], sorted by name, without doubles */
    size_t n;
    const struct safetensors *metadata; /* of a single safetensors file, or
                                         * NULL */
    json_t *config;                     /* config.json, or NULL */

    struct shard *shards; /* [n_shards], private */
    size_t n_shards;
};

/* On success the checkpoint is the caller's to close; on failure there is
 * none and the sentence names the file. */
enum status foreign_open(struct foreign *foreign, const char *path);
void foreign_close(struct foreign *foreign);

/* A JSON file beside the checkpoint, as json_file_read() promises; NULL when
 * there is none of that name. */
enum status foreign_read_json(json_t **json, const struct foreign *foreign,
                              const char *name, size_t most);

#endif

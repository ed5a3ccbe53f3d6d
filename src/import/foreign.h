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

#include <stddef.h>

#include "base/status.h"
#include "model/safetensors.h"

struct foreign {
    char *path;                   /* of the file or index: for messages      */
    const struct tensor *tensors; /* [n], sorted by name, without doubles   */
    size_t n;
    const struct safetensors *metadata; /* of a single safetensors file, or
                                         * NULL                              */
    void *config; /* json_t *: config.json, or NULL                          */

    struct shard *shards; /* [n_shards], private                             */
    size_t n_shards;
};

/* On success the checkpoint is the caller's to close; on failure there is
 * none and the sentence names the file. */
enum status foreign_open(struct foreign *foreign, const char *path);
void foreign_close(struct foreign *foreign);

/* NULL when there is none of that name. */
const struct tensor *foreign_find(const struct foreign *foreign,
                                  const char *name);

#endif

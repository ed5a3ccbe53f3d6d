/* export.h -- makes the int8 model that mambyte runs from weights in training.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXPORT_H
#define MAMBYTE_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors_write.h"
#include "train/parameters.h"

/* Where a model comes from, for its metadata. */
struct provenance {
    const struct metadata *metadata; /* [n] */
    size_t n;
};

/* The whole file in memory; *bytes is the caller's to free.
 * weights: [n_floats] */
enum status export_memory(uint8_t **bytes, size_t *n,
                          const struct parameters *parameters,
                          const float *weights,
                          const struct provenance *provenance);

/* The same to a file, as atomic_file.h promises. */
enum status export_file(const char *path, const struct parameters *parameters,
                        const float *weights,
                        const struct provenance *provenance);

#endif

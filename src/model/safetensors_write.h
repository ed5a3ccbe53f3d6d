/* safetensors_write.h -- writes a .safetensors file, whole or not at all.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAFETENSORS_WRITE_H
#define MAMBYTE_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors.h"

/* Tensors are I8, F32, BF16 or F16; of each, name, dtype, n_dims, shape and
 * data count: floats of four bytes in the order of this machine, of two as
 * the file has them. */

/* Replaces path at once, or leaves what is there as it was; the new file is
 * on the disk when this returns.  A link stays, a device is written to. */
enum status safetensors_write(const char *path,
                              const struct safetensors_content *content);

/* The same in memory; *bytes is the caller's to free. */
enum status safetensors_write_memory(uint8_t **bytes, size_t *n,
                                     const struct safetensors_content *content);

/* XXH3-64 over names, shapes and data of all tensors and over the metadata
 * but "checksum": what makes a flipped bit show. */
uint64_t safetensors_checksum(const struct safetensors_content *content);

#endif

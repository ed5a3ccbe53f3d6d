/* safetensors_write.h -- writes a .safetensors file, whole or not at all.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAFETENSORS_WRITE_H
#define MAMBYTE_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "model/safetensors.h"

/* Tensors are I8, F32, BF16 or F16; of each, name, dtype, n_dims, shape and
 * data are read.  F32 is in the byte order of this machine, BF16 and F16 in
 * that of the file. */

/* Writes path as atomic_file.h promises, ATOMIC_FOLLOW. */
enum status safetensors_write(const char *path,
                              const struct safetensors_content *content);

/* The same to a stream; sentences name no file. */
enum status safetensors_write_stream(FILE *out,
                                     const struct safetensors_content *content);

/* The same in memory; *bytes is the caller's to free. */
enum status safetensors_write_memory(uint8_t **bytes, size_t *n,
                                     const struct safetensors_content *content);

#endif

/* safetensors_checksum.h -- tells when a bit of a .safetensors file was
 * flipped.
 *
 * The value of the key "checksum" in the metadata: 16 hexadecimal digits of
 * XXH3-64 over the other metadata, and over the names, shapes and data of all
 * tensors.  So it stays right when a tool writes the header in another form.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAFETENSORS_CHECKSUM_H
#define MAMBYTE_SAFETENSORS_CHECKSUM_H

#include <stdbool.h>

#include "base/status.h"
#include "model/safetensors.h"

#define SAFETENSORS_CHECKSUM "checksum" /* the key */

enum { CHECKSUM_CHARS = 17 };

/* The checksum of what is to be written, where the key may have any value. */
void safetensors_checksum(char text[CHECKSUM_CHARS],
                          const struct safetensors_content *content);

/* E_FORMAT when what was read differs from the checksum it has, or when it has
 * none, but for is_optional; the sentence names no file. */
enum status safetensors_check_checksum(const struct safetensors *file,
                                       bool is_optional);

#endif

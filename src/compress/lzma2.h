/* lzma2.h -- packs bytes by liblzma.
 *
 * A raw LZMA2 stream: preset 9e, the dictionary as large as the bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LZMA2_H
#define MAMBYTE_LZMA2_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* *n_packed is SIZE_MAX when it would be more than room. */
enum status lzma2_pack(const uint8_t *bytes, size_t n, uint8_t *packed,
                       size_t room, size_t *n_packed);

/* Fills bytes[0..n).  E_FORMAT when packed[0..n_packed) does not make n
 * bytes. */
enum status lzma2_unpack(uint8_t *bytes, size_t n, const uint8_t *packed,
                         size_t n_packed);

#endif

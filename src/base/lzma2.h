/* lzma2.h -- packs bytes by liblzma.
 *
 * A raw LZMA2 stream: preset 9e, the dictionary as large as the bytes.  Files
 * hold such streams, so what is here is part of their formats.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LZMA2_H
#define MAMBYTE_LZMA2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* *n_packed is SIZE_MAX when it would be more than room.  E_INTERRUPTED when a
 * signal came. */
enum status lzma2_pack(const uint8_t *bytes, size_t n, uint8_t *packed,
                       size_t room, size_t *n_packed);

/* Fills bytes[0..n); *is_whole is false when packed[0..n_packed) does not make
 * n bytes. */
enum status lzma2_unpack(uint8_t *bytes, size_t n, const uint8_t *packed,
                         size_t n_packed, bool *is_whole);

#endif

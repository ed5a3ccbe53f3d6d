/* outlet.h -- writes what is generated, up to a stop string, in whole
 * characters.
 *
 * Bytes that may be the start of a stop string, and those of an incomplete
 * UTF-8 character, are held back until later bytes decide.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OUTLET_H
#define MAMBYTE_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/utf8.h"

enum { OUTLET_STOP_MAX = 4096 }; /* bytes of a stop string */

struct outlet {
    struct sink *sink;
    const char *const *stops; /* [n_stops], not empty */
    int n_stops;
    bool is_utf8;    /* only whole characters are written; a byte
                      * that is part of none becomes U+FFFD */
    bool is_stopped; /* by a stop string; add no more bytes then */
    uint64_t n_out;  /* bytes added that were written, as they
                      * are or replaced */
    size_t n_held;
    size_t n_before; /* of held, bytes of the input, which are
                      * not written */
    uint8_t held[OUTLET_STOP_MAX + UTF8_MAX];
};

/* Tells the outlet the input, piece by piece, before the first byte is added:
 * with is_utf8, the output may complete a character that the input began. */
void outlet_after(struct outlet *outlet, const uint8_t *bytes, size_t n);

/* Adds a byte; not after is_stopped. */
enum status outlet_add(struct outlet *outlet, uint8_t byte);

/* No more bytes come: writes what was held, except half a character. */
enum status outlet_finish(struct outlet *outlet);

#endif

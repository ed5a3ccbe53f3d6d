/* outlet.h -- what is generated on its way out: stop strings, whole
 * characters.
 *
 * Bytes that may turn out to begin a stop string, or a character of UTF-8
 * that is not complete, are held back until the next ones decide.
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
    bool is_utf8;    /* only whole characters go out; what is none
                      * goes out as U+FFFD */
    bool is_stopped; /* by a stop string; no more bytes then */
    uint64_t n_out;  /* bytes given to us that are settled: went
                      * out, as they are or replaced */
    size_t n_held;
    size_t n_before; /* of held, bytes of the input: went out
                      * already, or not at all */
    uint8_t held[OUTLET_STOP_MAX + UTF8_MAX];
};

/* Before the first byte: these are of the input, whose pieces come in order.
 * With is_utf8, the output may complete a character that the input began. */
void outlet_after(struct outlet *outlet, const uint8_t *bytes, size_t n);

/* One byte more; not after is_stopped. */
enum status outlet_add(struct outlet *outlet, uint8_t byte);

/* No more will come: lets go of what was held, except half a character. */
enum status outlet_finish(struct outlet *outlet);

#endif

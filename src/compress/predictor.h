/* predictor.h -- codes bytes by the model's prediction, mixed with what the
 * data so far have taught.
 *
 * A group of slices shares one predictor.  The encoder and the decoder alike
 * show it byte t of slice 0, of slice 1, and so on, then the bytes t + 1.  For
 * each bit of a byte it mixes, as log-odds,
 *
 *     the model's prediction;
 *     what followed the same context in the group: the last 1, 3, 4 and 6
 *     bytes, and the column, the field and the line (text_place.h);
 *     the bytes that followed the last occurrences of the last bytes, as
 *     likely as matches of their length have proved (match.h),
 *
 * by weights that learn from each error, and corrects the result by how often
 * such predictions came true (context mixing: Mahoney, The PAQ data compression
 * programs, 2005).  Integers only.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREDICTOR_H
#define MAMBYTE_PREDICTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/range_coder.h"
#include "base/status.h"
#include "compress/context_lines.h"
#include "compress/match.h"
#include "compress/text_place.h"

struct predictor;

/* What a predictor keeps of each of its slices. */
struct predictor_slice {
    uint32_t start;       /* of the slice in bytes[]               */
    uint32_t t;           /* bytes coded                           */
    uint64_t last;        /* the last 8 bytes, the latest lowest   */
    uint64_t before_last; /* the 8 bytes before those              */
    struct match matches[N_MATCHES];
    struct text_place place;
    uint64_t contexts[N_CONTEXTS]; /* of the next byte             */
};

/* A predictor for a group of slices whose bytes lie one after another in
 * bytes[0..n): slice i from i * stride on.  It looks only at bytes that both
 * sides know.  On failure *predictor is NULL.  Not to be called from two
 * threads at a time. */
enum status predictor_new(struct predictor **predictor, uint8_t *bytes,
                          uint32_t n, uint32_t stride);
void predictor_free(struct predictor *predictor); /* NULL is accepted */

/* A slice at its start, which is a position in bytes[]. */
struct predictor_slice predictor_slice_make(uint32_t start);

/* Codes the next byte of a slice, bytes[start + t]; a decoder writes it there.
 * logits: the model's prediction of it. */
void predictor_code(struct predictor *predictor, struct predictor_slice *slice,
                    struct range_coder *coder, const float logits[256]);

#endif

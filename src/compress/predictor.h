/* predictor.h -- codes bytes by the model's prediction, mixed with what the
 * data so far have taught.
 *
 * A group of slices shares one predictor.  The encoder and the decoder alike
 * show it byte t of slice 0, of slice 1, and so on, then the bytes t + 1.  For
 * each bit of a byte it mixes, as log-odds,
 *
 *     the model's prediction;
 *     counts of what followed the last 1, 2, 3, 4 and 6 bytes of the slice;
 *     the byte that followed the last occurrence of the last bytes (a match),
 *     as likely as matches of its length have proved,
 *
 * by weights that learn from each error (context mixing: Mahoney, The PAQ
 * data compression programs, 2005).  Integers only.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREDICTOR_H
#define MAMBYTE_PREDICTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compress/range_coder.h"

struct predictor;

/* What a predictor keeps of each of its slices.  At first all is zero except
 * start. */
struct predictor_slice {
    uint32_t start;  /* of the slice in bytes[]                          */
    uint32_t t;      /* bytes coded                                     */
    uint64_t last;   /* the last 8 bytes, the latest lowest             */
    uint32_t match;  /* where the match goes on in bytes[]              */
    uint32_t length; /* of the match; 0: there is none                  */
};

/* A predictor for a group of slices whose bytes lie one after another in
 * bytes[0..n): slice i from i * stride on.  It looks only at bytes that both
 * sides know.  On failure *predictor is NULL.  Not to be called from two
 * threads at a time. */
enum status predictor_new(struct predictor **predictor, uint8_t *bytes,
                          uint32_t n, uint32_t stride);
void predictor_free(struct predictor *predictor); /* NULL is accepted */

/* Codes the next byte of a slice, bytes[start + t]; a decoder writes it there.
 * logits: the model's prediction of it. */
void predictor_code(struct predictor *predictor, struct predictor_slice *slice,
                    struct range_coder *coder, const float logits[256]);

#endif

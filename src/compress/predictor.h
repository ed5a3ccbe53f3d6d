/* predictor.h -- what the model expects of a byte, mixed with what the data
 * at hand have taught.
 *
 * A group of lanes, stepped in turns, shares one predictor: it sees the byte
 * at t of lane 0, of lane 1, ..., then those at t + 1, in the encoder as in
 * the decoder.  For each bit of a byte it mixes, as log-odds,
 *
 *     the model's prediction;
 *     counts of what followed the last 1, 2, 3, 4 and 6 bytes of the lane;
 *     the byte that followed the longest known repeat of them (a match), as
 *     likely as matches of its length have proved,
 *
 * by weights that follow the errors made (context mixing: Mahoney, The PAQ
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

/* What a predictor keeps of each of its lanes; but for start, all zero at
 * first. */
struct predictor_lane {
    uint32_t start;  /* of the lane in bytes[]                          */
    uint32_t t;      /* bytes coded                                     */
    uint64_t last;   /* the last 8 bytes, the latest lowest             */
    uint32_t match;  /* where the match goes on in bytes[]              */
    uint32_t length; /* of the match; 0: there is none                  */
};

/* A predictor for a group of lanes whose bytes lie one after another in
 * bytes[0..n): lane i from i * stride on.  Only those that both sides know
 * are ever looked at.  On failure *predictor is NULL.  Not to be called from
 * two threads at a time. */
enum status predictor_new(struct predictor **predictor, uint8_t *bytes,
                          uint32_t n, uint32_t stride);
void predictor_free(struct predictor *predictor); /* NULL is accepted */

/* Codes the next byte of a lane, bytes[start + t], to which a decoder writes
 * it.  logits: the model's prediction of it. */
void predictor_code(struct predictor *predictor, struct predictor_lane *lane,
                    struct range_coder *coder, const float logits[256]);

#endif

/* samples.h -- finds, by samples, the parts that the model makes smaller.
 *
 * The model takes a hundred times as long as liblzma.  So both first code a few
 * excerpts of the bytes.  Unless the model makes these smaller than liblzma
 * does, by a thirty-second at least, the bytes are left to liblzma.  Where a
 * few megabytes suit the other coder better than the bytes before them, a new
 * block starts.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAMPLES_H
#define MAMBYTE_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compress/dedupe.h"
#include "compress/slices.h"

enum { PARTS_MAX = 1 << 8 };

struct block_part {
    size_t n; /* bytes */
    bool is_for_model;
};

/* Cuts bytes[0..n), n > 0, into at most PARTS_MAX parts, which follow each
 * other.  The model reads at most a sixteenth of the bytes for that.  The parts
 * depend on the bytes and the model alone.  copies: of dedupe_find(). */
enum status samples_cut(struct slices *slices, const uint8_t *bytes, size_t n,
                        const struct copy_list *copies,
                        struct block_part parts[PARTS_MAX], size_t *n_parts);

/* Whether all bytes are about as frequent: they are compressed, or random. */
bool samples_look_random(const uint8_t *bytes, size_t n);

#endif

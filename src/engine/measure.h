/* measure.h -- how well a model predicts some bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MEASURE_H
#define MAMBYTE_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"
#include "engine/scorer.h"
#include "model/model.h"

/* Bytes to measure on. */
struct sample {
    const char *path;
    uint8_t *bytes; /* [n], owned */
    size_t n;
};

/* Reads the first bytes of a file, as many as most; an empty file is
 * refused. */
enum status sample_open(struct sample *sample, const char *path, size_t most);
void sample_close(struct sample *sample);

/* Tallies the bits of a sample, as mambyte --perplexity does on the CPU.  what
 * names the work on the progress line.  A signal ends it with
 * E_INTERRUPTED. */
enum status measure(struct tally *tally, const struct model *model,
                    const struct sample *sample, int n_threads,
                    const char *what);

/* The same on an engine with these options. */
enum status measure_with(struct tally *tally, const struct model *model,
                         const struct sample *sample,
                         const struct engine_options *options,
                         const char *what);

#endif

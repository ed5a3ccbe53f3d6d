/* loader.h -- deals out windows of a dataset to the streams of training.
 *
 * Each stream draws a data source by weight and a place in it, reads a passage
 * from there, and draws again.  A passage is several windows that follow each
 * other; the state goes on from one to the next.  The streams draw at
 * different steps.  A passage starts with the begin byte of the model, if it
 * has one; from the end of the source it goes on at the start.
 *
 * The windows of a step are a function of the seed and of the step alone, so
 * that a run can be resumed anywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LOADER_H
#define MAMBYTE_LOADER_H

#include "train/dataset.h"
#include "train/trainer.h"

struct loader {
    const struct dataset *dataset;
    double *shares;    /* [sources]: of the draws, summed up; ends at 1 */
    uint64_t *n_bytes; /* [sources]: those to learn from, without those
                        * that are held out */
    int n_windows, n_t;
    uint64_t carry; /* windows of a passage */
    int begin_byte; /* -1: none */
    uint64_t seed;
    uint8_t *bytes; /* what windows points to */
    bool *begins;
};

struct loader_options {
    int n_windows, n_t;
    uint64_t carry;
    int begin_byte;
    uint64_t seed;
    uint64_t most_held_out; /* bytes of each source; 0: none */
};

/* The dataset must outlive the loader.  Of each source the last hundredth, at
 * least 4 KiB, at most a tenth and at most most_held_out bytes, is held out.
 * E_IO when a source is shorter than a window. */
enum status loader_open(struct loader *loader, const struct dataset *dataset,
                        const struct loader_options *options);
void loader_close(struct loader *loader);

/* Valid until the next call. */
struct windows loader_windows(struct loader *loader, uint64_t step);

#endif

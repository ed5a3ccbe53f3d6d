/* recorded_run.h -- runs that an independent implementation recorded, and
 * trainers held to them.
 *
 * A folder of tests/data has first and last weights, gradients, the bytes of
 * each step, and its losses (its README).  What goes wrong here fails the test
 * that called.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RECORDED_RUN_H
#define MAMBYTE_RECORDED_RUN_H

#include "training_run.h"

enum { RECORDED_MAMBA1, RECORDED_MAMBA2, N_RECORDED };
enum { RECORDED_STEPS = 40, RECORDED_WINDOWS = 4 };

struct recorded {
    const char *folder;
    int n_t;                    /* bytes of a window */
    double loss, imitated_loss; /* of step 0, without and with int8 */
    struct model_config shape;
};

extern const struct recorded recorded_runs[N_RECORDED];

/* Fills x: [n_floats] from a file of the folder. */
void recorded_load(const struct recorded *r, const struct parameters *p,
                   float *x, const char *name);

/* The bytes of the first steps: [n_steps][windows][n_t + 1]. */
void recorded_read_batches(const struct recorded *r, uint8_t *bytes,
                           int n_steps);

/* With the first weights, and the windows of step 0. */
void recorded_open_bench(const struct recorded *r, struct bench *b);

/* How far a run may be from the recorded one. */
struct recorded_tolerance {
    double loss;    /* of each step */
    double norm;    /* of the gradient, as a share of it */
    double weights; /* at the end, as a share of how far a tensor moved */
};

/* A trainer with these options makes all the steps. */
void recorded_check(const struct recorded *r,
                    const struct trainer_options *options,
                    struct recorded_tolerance tolerance);

#endif

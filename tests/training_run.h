/* training_run.h -- runs of trainers.
 *
 * What goes wrong here fails the test that called.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAINING_RUN_H
#define MAMBYTE_TRAINING_RUN_H

#include "train/trainer_ops.h"

struct bench {
    struct parameters parameters;
    float *weights; /* [n_floats] */
    uint8_t *bytes; /* [windows][n_t + 1] */
    bool *begins;   /* [windows] */
    struct windows windows;
};

void assert_ok(enum status status);
void *zeros(size_t n, size_t size);

/* |a - b| / |b| */
double distance(const float *a, const float *b, size_t n);

/* Weights far from where gradients vanish or are alike. */
void bench_open(struct bench *b, const struct model_config *config,
                int n_windows, int n_t);
void bench_close(struct bench *b);

/* The windows of a step: step 0 begins all streams, later ones every third. */
void bench_draw(struct bench *b, int step);

/* Of the bench's windows and weights. */
struct trainer *bench_trainer(struct bench *b,
                              const struct trainer_options *given);
float *bench_part(struct trainer *t, enum trainer_part part);

/* Return the loss. */
double bench_gradient(struct trainer *t, struct bench *b, int step);
double bench_step(struct trainer *t, struct bench *b, int step);

/* A part after some steps of a trainer of its own. */
float *bench_run(const struct trainer_options *options, struct bench *b,
                 int n_steps, enum trainer_part part, double *loss);

/* ---- on GPUs ------------------------------------------------------------ */

/* Whether a trainer opens on a GPU at all; if not, the sentence says why. */
bool trainer_has_gpu(const struct model_config *config);

/* Trainers with these options have the same bits after some steps: two that
 * keep all layers, and one that computes them twice. */
void bench_check_bits(struct bench *b, const struct trainer_options *options);

/* Two GPUs come near what one does; skipped where there is one alone. */
void bench_check_two_gpus(struct bench *b,
                          const struct trainer_options *options);

#endif

/* training_run.h -- runs of trainers, and recorded ones to hold them to.
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
    float *weights; /* [n_floats]         */
    uint8_t *bytes; /* [windows][n_t + 1] */
    bool *begins;   /* [windows]          */
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

/* ---- recorded runs: a folder of tests/data has a README ------------------ */

enum { RECORDED_STEPS = 40, RECORDED_WINDOWS = 4 };

const char *recorded_path(char path[512], const char *folder, const char *name);
void recorded_load(const struct parameters *p, float *x, const char *folder,
                   const char *name);

/* All the steps, with loss and gradient close to those recorded. */
void recorded_follow(struct trainer *t, const char *folder, double tolerance,
                     double norm_tolerance);

/* Where the weights went, tensor by tensor: off by a share of how far. */
void recorded_check(const struct bench *b, struct trainer *t,
                    const char *folder, double share);

/* Whether a trainer opens on a GPU at all; if not, the sentence says why. */
bool trainer_has_gpu(const struct model_config *config);

#endif

/* trainer.h -- improves the weights of a model, on whatever hardware there is.
 *
 * A trainer owns the float32 master weights, their moments and the states of
 * the streams it reads; where they live is its business.  Data, schedule,
 * checkpoints, validation and the log are the same for all (train.c).
 *
 * A step is gradient(), then update(): between them the caller looks at the
 * loss and at the size of the gradient, and may stop instead.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAINER_H
#define MAMBYTE_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"
#include "train/parameters.h"

struct trainer;

/* What a step learns from: a window of each of n streams. */
struct windows {
    int n, n_t;
    const uint8_t *bytes; /* [n][n_t + 1]: n_t inputs, each predicting the
                           * byte after it                                  */
    const bool *begins;   /* [n]: the stream is at its begin, its state 0;
                           * else it goes on where its last window ended    */
};

struct step {
    double loss;          /* mean over all bytes, in nats                   */
    double gradient_norm; /* over all parameters                            */
};

struct update {
    double learning_rate;
    double gradient_scale; /* 1, or less to clip                            */
    double weight_decay;
    uint64_t n; /* updates so far, this one included             */
};

/* Arrays that a checkpoint keeps. */
enum trainer_part {
    PART_WEIGHTS,  /* [n_floats] of the parameters                          */
    PART_MOMENT_1, /* the same: the momentum of Muon, the mean of AdamW     */
    PART_MOMENT_2, /* the same: the mean square of AdamW, unused by Muon    */
    PART_STATES,   /* [n][trainer_state_floats()], as the layers of a state
                    * image: see engine.h                                   */
    N_PARTS
};

struct trainer_ops {
    enum status (*gradient)(struct trainer *, struct step *,
                            const struct windows *);
    enum status (*update)(struct trainer *, const struct update *);
    enum status (*get)(struct trainer *, enum trainer_part, float *host);
    enum status (*set)(struct trainer *, enum trainer_part, const float *host);
    void (*describe)(const struct trainer *, char text[160]);
    void (*close)(struct trainer *);
};

/* The first member of every trainer. */
struct trainer {
    const struct trainer_ops *ops;
    const struct parameters *parameters;
    int n_windows, n_t;
    enum device device; /* DEVICE_CPU or DEVICE_CUDA                      */
    int cuda_index;     /* the first GPU                                  */
    double peak;        /* bf16 operations a second that the GPUs can do, as
                         * measured; 0: unknown                                  */
};

struct trainer_options {
    int n_windows, n_t; /* of each step                                   */
    bool imitates_int8; /* compute as the finished model will             */
    int n_threads;      /* of the CPU; 0: one a core that we may run on   */
    enum device device; /* DEVICE_AUTO: the GPU where there is one        */
    int cuda_index;     /* which GPU, or the first of them                */
    int n_gpus;         /* that divide the windows; 0 is 1                */
    /* on a GPU, for tests */
    bool products_in_float; /* not in bf16                                */
    bool recomputes;        /* layers, even where all fits                */
    bool measures;          /* for cuda_trainer_times                     */
};

/* Weights, moments and states are zero until they are set.  parameters must
 * outlive the trainer.  E_DEVICE with the reason when the device cannot be
 * had, E_MEMORY when the step is too large for it. */
enum status trainer_open(struct trainer **trainer,
                         const struct parameters *parameters,
                         const struct trainer_options *options);
void trainer_close(struct trainer *trainer); /* NULL is accepted */

/* The recurrent state of one stream, without its prediction. */
size_t trainer_state_floats(const struct model_config *config);

/* Floats of a part. */
size_t trainer_part_floats(const struct trainer *trainer,
                           enum trainer_part part);

/* For trainer.c: cpu_trainer.c, cuda/cuda_trainer.cu. */
enum status cpu_trainer_open(struct trainer **trainer,
                             const struct parameters *parameters,
                             const struct trainer_options *options);
enum status cuda_trainer_open(struct trainer **trainer,
                              const struct parameters *parameters,
                              const struct trainer_options *options);

/* For benchmarks: the time of a part of all steps since the last call, on the
 * first GPU of a trainer that measures. */
struct trainer_time {
    const char *name;
    double seconds;
};
enum { TRAINER_TIMES = 16 };
enum status cuda_trainer_times(struct trainer *trainer,
                               struct trainer_time times[TRAINER_TIMES]);

#endif

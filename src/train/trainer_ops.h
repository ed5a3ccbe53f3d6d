/* trainer_ops.h -- what a backend gives, for trainer.c to make a trainer of.
 *
 * For trainer.c, the backends (cpu_trainer.c, cuda/train/), their tests and
 * benchmarks.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAINER_OPS_H
#define MAMBYTE_TRAINER_OPS_H

#include "train/trainer.h"

/* The functions of trainer.h. */
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
    enum device device; /* DEVICE_CPU or DEVICE_CUDA */
    int cuda_index;     /* the first GPU */
    double peak;        /* bf16 operations a second that the GPUs can do, as
                         * measured; 0: unknown */
};

/* Ways to compute that tests and benchmarks ask of a GPU. */
struct trainer_tuning {
    bool products_in_float; /* not in bf16 */
    bool recomputes;        /* layers, even where all fits */
    bool measures;          /* for cuda_trainer_times */
};

/* cpu_trainer.c, cuda/train/cuda_trainer.cu.  Arguments as for
 * trainer_open(). */
enum status cpu_trainer_open(struct trainer **trainer,
                             const struct parameters *parameters,
                             const struct trainer_options *options);
enum status cuda_trainer_open(struct trainer **trainer,
                              const struct parameters *parameters,
                              const struct trainer_options *options);

/* The time of a part of all steps since the last call, on the first GPU of a
 * trainer that measures. */
struct trainer_time {
    const char *name;
    double seconds;
};
enum { TRAINER_TIMES = 21 };
enum status cuda_trainer_times(struct trainer *trainer,
                               struct trainer_time times[TRAINER_TIMES]);

#endif

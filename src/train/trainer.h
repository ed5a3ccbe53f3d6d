/* trainer.h -- improves the weights of a model, on whatever hardware there is.
 *
 * A trainer owns the float32 master weights, their moments and the states of
 * the streams it reads; where they live is its business.  Data, schedule,
 * checkpoints, validation and the log are the same for all (train.c).
 *
 * A step is trainer_gradient(), then trainer_update(): between them the caller
 * looks at the loss and at the size of the gradient, and may stop instead.
 *
 * What a backend has to give is in trainer_ops.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAINER_H
#define MAMBYTE_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/device.h"
#include "model/model.h"
#include "train/parameters.h"

struct trainer;

/* What a step learns from: a window of each of n streams. */
struct windows {
    int n, n_t;
    const uint8_t *bytes; /* [n][n_t + 1]: n_t inputs, each predicting the
                           * byte after it */
    const bool *begins;   /* [n]: the stream starts, its state is 0;
                           * else it goes on where its last window ended */
};

struct step {
    double loss;          /* mean over all bytes, in nats */
    double gradient_norm; /* over all parameters */
};

struct update {
    double learning_rate;
    double gradient_scale; /* 1, or less to clip */
    double weight_decay;
    uint64_t n; /* updates so far, this one included */
};

/* Arrays that a checkpoint keeps. */
enum trainer_part {
    PART_WEIGHTS,  /* [n_floats] of the parameters */
    PART_MOMENT_1, /* the same: the momentum of Muon, the mean of AdamW */
    PART_MOMENT_2, /* the same: the mean square of AdamW, unused by Muon */
    PART_STATES,   /* [n][trainer_state_floats()], as the layers of a state
                    * image (state_image.h); Mamba-2: as said below */
    N_PARTS
};

struct trainer_tuning;

struct trainer_options {
    int n_windows, n_t; /* of each step */
    bool imitates_int8; /* compute as the finished model will */
    int n_threads;      /* of the CPU; 0: one a core that we may run on */
    enum device device; /* DEVICE_AUTO: the GPU where there is one */
    int cuda_index;     /* which GPU, or the first of them */
    int n_gpus;         /* that divide the windows; 0 is 1 */
    const struct trainer_tuning *tuning; /* NULL; for tests: trainer_ops.h */
};

/* Weights, moments and states are zero until they are set.  parameters must
 * outlive the trainer.  E_DEVICE with the reason when the device cannot be
 * had, E_MEMORY when the step is too large for it. */
enum status trainer_open(struct trainer **trainer,
                         const struct parameters *parameters,
                         const struct trainer_options *options);
void trainer_close(struct trainer *trainer); /* NULL is accepted */

/* The recurrent state of one stream, without its prediction: for each layer
 * the past inputs of its convolution, [d_conv - 1][conv_channels()], and its
 * states; those of Mamba-2 are [n_heads][headdim][d_state]. */
size_t trainer_state_floats(const struct model_config *config);

/* Floats of a part. */
size_t trainer_part_floats(const struct trainer *trainer,
                           enum trainer_part part);

/* The loss of the windows, and the gradient of all parameters, which stays
 * with the trainer for trainer_update(). */
enum status trainer_gradient(struct trainer *trainer, struct step *step,
                             const struct windows *windows);
enum status trainer_update(struct trainer *trainer,
                           const struct update *update);

/* A part to and from the memory of the host: [trainer_part_floats()]. */
enum status trainer_get(struct trainer *trainer, enum trainer_part part,
                        float *host);
enum status trainer_set(struct trainer *trainer, enum trainer_part part,
                        const float *host);

/* "cuda 0: NVIDIA H200" */
void trainer_describe(const struct trainer *trainer, char text[160]);

const struct parameters *trainer_parameters(const struct trainer *trainer);
int trainer_windows(const struct trainer *trainer); /* of each step */

/* Where it computes: DEVICE_CPU or DEVICE_CUDA, there from this GPU on. */
enum device trainer_device(const struct trainer *trainer);
int trainer_cuda_index(const struct trainer *trainer);

/* bf16 operations a second that the GPUs can do, as measured; 0: unknown. */
double trainer_peak(const struct trainer *trainer);

#endif

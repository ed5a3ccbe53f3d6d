/* train.h -- a run: from data and options to a model.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_H
#define MAMBYTE_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/names.h"
#include "base/status.h"
#include "engine/engine.h"
#include "model/model.h"

/* That is 100 steps, but at most a tenth of the run. */
#define WARMUP_DEFAULT UINT64_MAX

/* What a run is asked to do. */
struct train_options {
    const char *const *operands; /* [n_operands]: the data */
    int n_operands;
    const char *output; /* the model to write */
    const char *init;   /* the model to go on from; NULL: a new one */

    /* the shape of a new model */
    enum mixer mixer;
    uint64_t d_model, n_layer, d_conv, expand;
    uint64_t d_state; /* 0: 16, of Mamba-2 64 */
    uint64_t dt_rank; /* 0: d_model / 16, rounded up */
    uint64_t headdim, n_groups;
    bool is_tied;

    /* how long; all 0: every byte once */
    uint64_t n_steps, n_bytes;
    double minutes;

    /* a step */
    uint64_t n_windows, n_t, carry;
    double learning_rate, decay_share, weight_decay, clip;
    uint64_t warmup;
    uint64_t seed;
    bool imitates_int8;

    /* validation */
    struct name_list valids; /* none: a part of the data is held out */
    uint64_t valid_bytes;    /* of each source, at most */
    uint64_t valid_every;    /* steps; 0: at the end only */

    /* what is kept */
    const char *log, *plot; /* NULL: none */
    const char *checkpoint;
    double checkpoint_minutes;
    bool resumes;

    /* where */
    struct engine_options engine; /* a trainer has its device and threads */
    uint64_t n_gpus;
};

/* Trains, writes the checkpoint and the model, and to out a line for each
 * validated source: name, bytes, bits, bits per byte.  When a signal comes
 * (E_INTERRUPTED), or anything but a step fails, the run is saved in its
 * checkpoint. */
enum status train(const struct train_options *options, struct sink *out);

#endif

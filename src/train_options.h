/* train_options.h -- the command line of mambyte-train, understood.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_OPTIONS_H
#define MAMBYTE_TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "byteio.h"
#include "engine.h"
#include "message.h"
#include "option_table.h"
#include "status.h"

/* 100 steps, at most a tenth of the run. */
#define WARMUP_DEFAULT UINT64_MAX

struct train_options {
    const char *const *operands; /* [n_operands]: the data                  */
    int n_operands;
    const char *output; /* the model to write                      */
    const char *init;   /* the model to go on from; NULL: a new one */

    /* a classifier, in place of a model */
    const char *head;  /* the examples; NULL: a model is trained          */
    const char *test;  /* examples to report on; NULL: a held-out part    */
    const char *model; /* that it is for; NULL: the default               */

    /* the shape of a new model */
    uint64_t d_model, n_layer, d_state, d_conv, expand;
    uint64_t dt_rank; /* 0: d_model / 16, rounded up             */
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
    struct option_list valids; /* none: a part of the data is held out */
    uint64_t valid_bytes;      /* of each source, at most                 */
    uint64_t valid_every;      /* steps; 0: at the end only               */

    /* what is kept */
    const char *log, *plot; /* NULL: none                              */
    const char *checkpoint; /* NULL: the output, ".checkpoint" added   */
    double checkpoint_minutes;
    bool resumes;

    /* where */
    struct engine_options engine; /* a trainer has its device and threads */
    uint64_t n_gpus;
    enum verbosity verbosity;
    bool progress;
    bool wants_help, wants_version;
};

/* E_USAGE with the sentence when the line is wrong.  The options point into
 * argv, whose operands may be reordered. */
enum status train_options_parse(struct train_options *options, int argc,
                                char **argv);

enum status train_options_print_help(struct sink *sink);
enum status train_options_print_version(struct sink *sink);

#endif

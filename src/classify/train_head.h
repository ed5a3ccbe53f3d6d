/* train_head.h -- a classifier from labelled records, on a model as it is.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_HEAD_H
#define MAMBYTE_TRAIN_HEAD_H

#include "base/byteio.h"
#include "base/status.h"
#include "engine/engine.h"

/* What is asked of the training of a head. */
struct head_options {
    const char *examples; /* NULL: a model is trained, no head              */
    const char *test;     /* examples to report on; NULL: a held-out part   */
    const char *model;    /* that the head is for; NULL: the default        */
    const char *output;
    struct engine_options engine;
};

/* Does what --head asks: reads the examples, fits the head, writes it, and
 * prints to out how it does on what it has not seen. */
enum status train_head(const struct head_options *options, struct sink *out);

#endif

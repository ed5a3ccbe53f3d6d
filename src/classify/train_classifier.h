/* train_classifier.h -- a linear classifier from labelled records, on a model
 * that stays as it is.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_CLASSIFIER_H
#define MAMBYTE_TRAIN_CLASSIFIER_H

#include <stdbool.h>

#include "base/byteio.h"
#include "base/status.h"
#include "engine/engine.h"

struct classifier_options {
    const char *examples; /* NULL: a model is trained, no classifier        */
    const char *test;     /* examples to report on; NULL: a held-out part   */
    const char *model;    /* that the classifier is for; NULL: the default  */
    const char *output;
    bool has_no_features; /* it goes by the grams alone, and needs no model */
    struct engine_options engine;
};

/* Does what --head asks: reads the examples, fits a classifier, writes it, and
 * prints to out how well it does on records that it was not fitted to. */
enum status train_classifier(const struct classifier_options *options,
                             struct sink *out);

#endif

/* linear_classifier.h -- labels from features and grams, by weights.
 *
 * The features of a record are its pooled features (pooled.h), divided by the
 * number of its bytes; the classifier standardises them.  Beside them stands
 * the evidence of the record's grams (grams.h).  A multinomial logistic
 * regression on both gives the labels.  A classifier without features needs no
 * model.
 *
 * Users call its file a head: linear_classifier_file.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LINEAR_CLASSIFIER_H
#define MAMBYTE_LINEAR_CLASSIFIER_H

#include <stddef.h>
#include <stdint.h>

#include "base/printable.h"
#include "base/status.h"
#include "classify/grams.h"
#include "model/model.h"

struct linear_classifier {
    char **labels; /* [n_labels], sorted by bytes; no two alike */
    int n_labels;
    int n_features;        /* or 0: it goes by the grams alone */
    float *mean, *inverse; /* [n_features]: (x - mean) * inverse */
    float *w;              /* [n_features + 1][n_labels], last the biases */
    struct grams grams;
    float ease; /* what the evidence of the grams is multiplied by */
    struct fingerprint model;
    char model_name[PRINTABLE_CHARS]; /* for people */
    double temperature; /* the weights are divided by it already */
};

/* Room for n_features and n_labels, which are set; all zero. */
enum status linear_classifier_make_room(struct linear_classifier *classifier);
void linear_classifier_free(struct linear_classifier *classifier);

/* Takes the fingerprint and the name of a model: "mambyte-27m". */
void linear_classifier_name_model(struct linear_classifier *classifier,
                                  const struct model *model);

/* E_MODEL when the classifier, from path, is for another model; the sentence
 * names that model.  One without features is for every model. */
enum status
linear_classifier_check_model(const struct linear_classifier *classifier,
                              const char *path, const struct model *model);

/* features: [n][n_features], in place. */
void linear_classifier_standardise(const struct linear_classifier *classifier,
                                   float *features, size_t n);

/* The logits, [..][n_labels], of records [begin, end).  Standardises their
 * features, [..][n_features], in place; NULL where the classifier has none.
 * evidence: [..][n_labels].  The softmax of a row gives the probabilities.  A
 * row depends on its record alone: threads may share the records. */
void linear_classifier_compute(const struct linear_classifier *classifier,
                               float *logits, float *features,
                               const float *evidence, size_t begin, size_t end);

#endif

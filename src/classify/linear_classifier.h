/* linear_classifier.h -- a classifier on what a model says of a record, and on
 * its words.
 *
 * The features of a record are the sums of engine.h over its bytes, divided
 * by their number; a head standardises them.  Beside them stand the grams of
 * the record, as grams.h weighs them.  A head is a multinomial logistic
 * regression on both, in a safetensors file:
 *
 *     mean, inverse      F32 [n_features]     (x - mean) * inverse
 *     weight             I8  [n_labels][n_features], a row times its
 *     weight_scale       F32 [n_labels]
 *     bias               F32 [n_labels]
 *     gram_slot          I32 [n_grams]
 *     gram_rarity        F32 [n_grams]
 *     gram_weight        I8  [n_labels][n_grams], a row times its
 *     gram_weight_scale  F32 [n_labels]
 *
 * A head without the last four has no grams.
 *
 * __metadata__ names the format, the labels as a JSON array, the model with
 * its fingerprint, without which the features mean nothing, and the
 * temperature by which the probabilities were calibrated; it is in the
 * weights already.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LINEAR_CLASSIFIER_H
#define MAMBYTE_LINEAR_CLASSIFIER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/grams.h"
#include "classify/sparse.h"
#include "model/model.h"

struct head {
    char **labels; /* [n_labels], by bytes; no two alike */
    int n_labels;
    int n_features;
    float *mean, *inverse; /* [n_features] */
    float *w;              /* [n_features + 1][n_labels], last the biases */
    struct grams grams;
    float *gram_w; /* [grams.n][n_labels] */
    struct fingerprint model;
    char model_name[64]; /* for people */
    double temperature;
};

/* Opens and validates; on failure *head is all zero and the sentence names
 * path. */
enum status head_open(struct head *head, const char *path);

/* The same from memory; see safetensors_open_memory. */
enum status head_open_memory(struct head *head, const char *name,
                             const void *bytes, size_t n);
void head_free(struct head *head);

/* E_MODEL with both models named when the head, from path, is of another. */
enum status head_check_model(const struct head *head, const char *path,
                             const struct model *model);

/* Replaces path at once, or leaves what is there as it was.  The weights are
 * rounded to int8 on the way. */
enum status head_save(const struct head *head, const char *path);

/* "mambyte-27m" from the path of a model. */
void head_name_model(struct head *head, const struct model *model);

/* features: [n][n_features], in place. */
void head_standardise(const struct head *head, float *features, size_t n);

/* The logits, [..][n_labels], of records [begin, end); their features,
 * [..][n_features], are standardised in place; their grams, [..][grams.n], are
 * not looked at where the head has none.  Probabilities are the softmax of a
 * row.  A row depends on nothing but its record: threads may share them out. */
void head_classify(const struct head *head, float *logits, float *features,
                   const struct sparse *grams, size_t begin, size_t end);

#endif

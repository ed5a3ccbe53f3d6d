/* linear_classifier_file.h -- a linear classifier, to and from a file.
 *
 * Users call the file a head.  It is a safetensors file:
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
 * A classifier without grams does not have the last four.
 *
 * __metadata__ has the format; the labels as a JSON array; the name and the
 * fingerprint of the model, as the features mean nothing without it; and the
 * temperature, by which the weights are divided already.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LINEAR_CLASSIFIER_FILE_H
#define MAMBYTE_LINEAR_CLASSIFIER_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "classify/linear_classifier.h"
#include "model/safetensors.h"

/* By its metadata. */
bool is_linear_classifier(const struct safetensors *file);

/* Reads and validates; on failure *classifier is all zero, and the sentence
 * names path. */
enum status linear_classifier_load(struct linear_classifier *classifier,
                                   const char *path);

/* The same from memory; see safetensors_open_memory. */
enum status linear_classifier_load_memory(struct linear_classifier *classifier,
                                          const char *name, const void *bytes,
                                          size_t n);

/* Replaces path at once, or leaves what is there as it was.  Rounds the weights
 * to int8. */
enum status linear_classifier_save(const struct linear_classifier *classifier,
                                   const char *path);

#endif

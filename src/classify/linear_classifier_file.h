/* linear_classifier_file.h -- a linear classifier, to and from a file.
 *
 * Users call the file a head.  It is a safetensors file:
 *
 *     mean, inverse      F32 [n_features]     (x - mean) * inverse
 *     weight             I8  [n_labels][n_features], a row times its
 *     weight_scale       F32 [n_labels]
 *     bias               F32 [n_labels]
 *     grams              U8  [..]             a table, as in gram_file.h
 *     gram_shift         F32 [n_labels]
 *     gram_ease          F32 [1]
 *
 * A classifier without features does not have the first four.
 *
 * __metadata__ has the format and its version; the labels as a JSON array; the
 * name and the fingerprint of the model, if there are features, as those mean
 * nothing without it; the temperature, by which the weights are divided
 * already; and a checksum, which may be missing.
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

/* Whether the one in path has features.  Reads the metadata and no tensor. */
enum status linear_classifier_has_features(const char *path, bool *has);

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

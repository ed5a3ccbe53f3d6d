/* train_head.h -- a classifier from labelled records, on a model as it is.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_HEAD_H
#define MAMBYTE_TRAIN_HEAD_H

#include "byteio.h"
#include "status.h"
#include "train_options.h"

/* Does what --head asks: reads the examples, fits the head, writes it, and
 * prints to out how it does on what it has not seen. */
enum status train_head(const struct train_options *options, struct sink *out);

#endif

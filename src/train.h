/* train.h -- a run: from data and options to a model.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_H
#define MAMBYTE_TRAIN_H

#include "byteio.h"
#include "status.h"
#include "train_options.h"

/* Trains, and writes the model; out gets a line a validated source: name,
 * bytes, bits, bits per byte.  On a signal the run is kept in its checkpoint
 * and E_INTERRUPTED returned. */
enum status train(const struct train_options *options, struct sink *out);

#endif

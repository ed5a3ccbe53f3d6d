/* import.h -- a published checkpoint becomes a model of ours, or one of ours a
 * checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_IMPORT_H
#define MAMBYTE_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/names.h"
#include "base/status.h"
#include "import/adopt.h"
#include "import/publish.h"

/* What an import is asked to do. */
struct import_options {
    const char *input;
    struct name_list averages; /* the mean is taken with these */
    const char *output;        /* a file, or with another naming a folder */
    enum naming naming;
    bool is_float;         /* weights stay as they are */
    const char *calibrate; /* NULL: nothing is measured */
    uint64_t calibrate_bytes;
    struct adopt_options adopt;
    int n_threads; /* 0: one a core */
};

/* Writes the model, and to out what was found and measured.  Each file of the
 * output is replaced at once, or left as it was. */
enum status import(const struct import_options *options, struct sink *out);

#endif

/* adopt.h -- a foreign checkpoint as a model of ours, nothing copied.
 *
 * Tensors get our names (tensor_names.h).  Rows of a vocabulary beyond the
 * bytes are cut off; an lm_head that equals the embedding is left out; a
 * convolution without a bias gets one of zeros.  Layers other than Mamba are
 * refused.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ADOPT_H
#define MAMBYTE_ADOPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "import/foreign.h"
#include "import/tensor_names.h"
#include "model/metadata_list.h"
#include "model/model.h"

/* In place of a begin byte. */
enum {
    BEGIN_BYTE_AS_SAID = -1, /* the one that the checkpoint names, if any */
    BEGIN_BYTE_NONE = -2
};

struct adopt_options {
    int begin_byte;
    bool cuts_vocabulary; /* to the first 256 rows, whatever a tokenizer says */
};

struct adopted {
    struct model *model;                /* validated */
    struct safetensors_content content; /* what it was made from */
    const char *naming;                 /* "mamba-ssm", .. */
    uint64_t vocabulary;                /* rows of the embedding found */

    /* Private. */
    char (*names)[TENSOR_NAME_CHARS]; /* [content.n_tensors] */
    struct tensor *tensors;           /* those of content */
    void *zeros;                      /* biases that the checkpoint lacks */
    struct metadata_list metadata;    /* those of content */
};

/* The foreign checkpoint must outlive what was adopted.  On failure there is
 * nothing to close. */
enum status adopt(struct adopted *adopted, const struct foreign *foreign,
                  const struct adopt_options *options);
void adopted_close(struct adopted *adopted);

#endif

/* adopt.h -- a foreign checkpoint as a model of ours, nothing copied.
 *
 * Tensors get our names, whichever of three projects named them.  Rows that pad
 * a vocabulary beyond the bytes are cut off; an lm_head that equals the
 * embedding is left out.  Layers that are no Mamba are refused.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ADOPT_H
#define MAMBYTE_ADOPT_H

#include <stdint.h>

#include "base/status.h"
#include "import/foreign.h"
#include "model/model.h"

enum { ADOPT_METADATA_MAX = 6 };

struct adopted {
    struct model *model;                /* validated                        */
    struct safetensors_content content; /* what it was made from            */
    const char *naming;                 /* "mamba-ssm", ..                  */
    uint64_t vocabulary;                /* rows of the embedding found      */

    char (*names)[128];     /* private: [content.n_tensors]                */
    struct tensor *tensors; /* private: those of content                   */
    struct metadata metadata[ADOPT_METADATA_MAX];
    char begin_byte[16], norm_epsilon[32], n_groups[16], delta_limit[80];
};

/* The foreign checkpoint must outlive what was adopted.  begin_byte -1: the one
 * that the file names, if any.  On failure there is nothing to close. */
enum status adopt(struct adopted *adopted, const struct foreign *foreign,
                  int begin_byte);
void adopted_close(struct adopted *adopted);

#endif

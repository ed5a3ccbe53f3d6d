/* batch_plan.cuh -- whether and how a model is dealt out to the blocks of a
 * team.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_PLAN_CUH
#define MAMBYTE_BATCH_PLAN_CUH

#include "cuda/batch/batch_kernel.cuh"

/* Channels of a block; 0 when they cannot be dealt out evenly. */
int batch_choose_channels(const struct model_config *c);

/* All of *m but `at` and the weights. */
void batch_describe_model(struct batch_model *m, const struct cuda_model *from,
                          int channels);

/* Sets m->at and m->rows, for tiles of so many rows: what they leave of
 * max_shared is the ring.  The caller compares at.bytes with max_shared. */
void batch_place_memory(struct batch_model *m, const struct batch_variant *v,
                        int rows, int max_shared);

#endif

/* batch.cuh -- many streams, a byte each.
 *
 * A team, which is a cluster of blocks, carries a tile of streams through all
 * layers on the chip: only weights and states come from memory, and no kernel
 * is launched on the way.  The same bits as prefill.cuh, which serves longer
 * pieces, and the shapes and GPUs that teams do not.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_CUH
#define MAMBYTE_BATCH_CUH

#include "cuda/common/device.cuh"

struct batch_decoder; /* private: weights in the order of use, what is under way
                       */

/* *decoder is NULL where the shape does not fit the GPU, or what it needs its
 * memory: a second copy of the weights.  The model outlives it. */
enum status batch_decoder_open(struct batch_decoder **decoder,
                               const struct cuda_model *model);
void batch_decoder_close(struct batch_decoder *decoder); /* NULL is accepted */

/* engine_feed for segments of one byte or none, without sums.  Returns when
 * all is done.  Logits in any of floats are written there by the kernel. */
enum status batch_decoder_feed(struct batch_decoder *decoder,
                               const struct segment *segments, size_t n,
                               const struct host_floats *floats);

#endif

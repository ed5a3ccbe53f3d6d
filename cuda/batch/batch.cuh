/* batch.cuh -- many streams, a byte each.
 *
 * A team is a cluster of blocks.  It carries a tile of streams through all
 * layers in one launch; only weights and states come from memory.  prefill.cuh
 * gives the same bits, for longer segments, and for the shapes and GPUs that
 * teams cannot serve.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_CUH
#define MAMBYTE_BATCH_CUH

#include "cuda/common/device.cuh"

struct batch_decoder; /* private */

/* *decoder is NULL where the shape does not fit the GPU, or its memory has no
 * room for a second copy of the weights.  The model outlives the decoder. */
enum status batch_decoder_open(struct batch_decoder **decoder,
                               const struct cuda_model *model);
void batch_decoder_close(struct batch_decoder *decoder); /* NULL is accepted */

/* engine_feed for segments of one byte or none, without pooled features.
 * Returns when all is done.  floats: pinned memory of the host; logits that are
 * wanted there are written there by the kernel. */
enum status batch_decoder_feed(struct batch_decoder *decoder,
                               const struct segment *segments, size_t n,
                               const struct host_floats *floats);

#endif

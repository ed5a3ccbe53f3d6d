/* decode.cuh -- one stream, byte by byte, in one persistent kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_CUH
#define MAMBYTE_DECODE_CUH

#include "cuda/common/device.cuh"

struct decoder; /* private */

/* Chooses the grid, and makes a second copy of the weights, in the order of
 * use. *decoder is NULL where the shape does not fit the GPU.  The model
 * outlives the decoder.  All of its work is on that stream of CUDA. */
enum status decoder_open(struct decoder **decoder,
                         const struct cuda_model *model, cudaStream_t stream);
void decoder_close(struct decoder *decoder); /* NULL is accepted */

/* engine_generate for one stream, whose state on the device is image.  Returns
 * when bytes [n], on the host, are written. */
enum status decoder_generate(struct decoder *decoder, float *image,
                             const struct sampler *sampler, uint64_t index,
                             uint8_t *bytes, size_t n);

/* engine_feed for one segment: bits [n] or NULL, logits [n][256] or NULL, on
 * the host. */
enum status decoder_feed(struct decoder *decoder, float *image,
                         const uint8_t *bytes, size_t n, float *bits,
                         float *logits);

#endif

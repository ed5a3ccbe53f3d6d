/* mamba2_image.cuh -- images of states of Mamba-2, to and from the device.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_IMAGE_CUH
#define MAMBYTE_MAMBA2_IMAGE_CUH

#include "cuda/common/mamba2_state.cuh"

/* image is what the device holds of it: writes the place, and clears what is
 * not kept at 0 there. */
enum status mamba2_image_finish(const struct model_config *config,
                                const struct state *state, float *image);

/* Derives from the image of a state what lies behind it; only enqueues. */
enum status mamba2_image_derive(const struct model_config *config,
                                const struct state *state, cudaStream_t stream);

#endif

/* decode_kernel.cuh -- the kernel of decode, and what a launch of it does.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_KERNEL_CUH
#define MAMBYTE_DECODE_KERNEL_CUH

#include "cuda/decode/decode_plan.cuh"

enum { LAUNCH_BYTES = 256 }; /* that a launch reads or draws, at most */

/* What a launch is to do.  It writes to pinned memory of the host. */
struct decode_job {
    float *image;
    struct sampler sampler;
    uint64_t index; /* of the first byte that is drawn */
    uint32_t epoch; /* the last one of the launch before */
    int n;
    uint8_t *bytes; /* [n], to be drawn; NULL: bytes are given */
    uint8_t given[LAUNCH_BYTES];
    float *bits;   /* [n] or NULL */
    float *logits; /* [n][256] or NULL */
};

typedef void decode_function(struct decode_plan, struct decode_job);

/* The kernel compiled for this shape, if a shipped or published model has it;
 * else the one for all shapes. */
decode_function *decode_choose_kernel(const struct model_config *c);

/* The same of Mamba-2. */
decode_function *decode_choose_mamba2(const struct model_config *c);

#endif

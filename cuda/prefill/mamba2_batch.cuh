/* mamba2_batch.cuh -- what prefill's kernels of Mamba-2 work on besides a
 * struct prefill_batch, and their launches.
 *
 * Of that struct uz holds z | x | B | C | dt, a row of zx_stride floats, and u
 * holds v.  Names are those of kernels/mamba2.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_BATCH_CUH
#define MAMBYTE_MAMBA2_BATCH_CUH

#include "cuda/common/mamba2_state.cuh"
#include "cuda/prefill/prefill_batch.cuh"

/* Passed by value.  A [layer] array has `rows` rows for each layer. */
struct mamba2_batch {
    int n_heads, headdim, n_groups, conv_channels;
    float delta_min, delta_max;
    struct mamba2_layout state;
    int zx_columns, zx_stride;
    int8_t *x;       /* [layer][d_inner]: x^                               */
    float *x_scale;  /* [layer][n_heads]                                   */
    int8_t *bc;      /* [layer][2 n_groups d_state]: B^ | C^               */
    float *bc_scale; /* [layer][2 n_groups]                                */
    float *delta;    /* [layer][n_heads]                                   */
    float *alpha;    /* [layer][n_heads]                                   */
};

/* Shapes and strides; memory is left to the caller. */
void mamba2_describe(struct mamba2_batch *m, const struct model_config *c);

/* E_DEVICE where the shape needs more shared memory than the device has. */
enum status mamba2_heads_prepare(const struct prefill_batch *b,
                                 const struct mamba2_batch *m);
enum status mamba2_norm_prepare(const struct prefill_batch *b,
                                const struct mamba2_batch *m);

/* z | x | B | C | dt of x.  In gemm_int8.cu. */
enum status launch_mamba2_in(struct queue q, const struct prefill_batch *b,
                             const struct mamba2_batch *m, struct tick tick);

/* x^, B^ and C^ of the convolution; delta and alpha. */
enum status launch_mamba2_conv(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick);

/* v; and of the state S, S^, w and e. */
enum status launch_mamba2_heads(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m, struct tick tick);

/* The rest of the state: the past of the convolution, x^, B^, the place. */
enum status launch_mamba2_keep(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick);

/* u_q = the norm of v, quantised. */
enum status launch_mamba2_norm(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick);

#endif

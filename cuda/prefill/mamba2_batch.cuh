/* mamba2_batch.cuh -- what prefill's kernels of Mamba-2 work on besides a
 * struct prefill_batch, and their launches.
 *
 * Of that struct uz holds silu(z) | x | B | C | dt, a row of zx_stride floats,
 * and u holds v.  Names are those of kernels/mamba2.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_BATCH_CUH
#define MAMBYTE_MAMBA2_BATCH_CUH

#include "cuda/common/mamba2_state.cuh"
#include "cuda/prefill/prefill_batch.cuh"

/* Passed by value.  A [layer] array has `rows` rows for each layer; one of
 * [layer][starts] has a row for each chunk that starts within a span.
 *
 * S^ is kept in the order of use.  16 channels and 64 states, padded with
 * zeros, are a tile of 1 KB: for the even channels and then for the odd ones,
 * for each lane, four words of states 16 i + lane % 4 * 4 of the (lane / 4)th
 * of these channels. */
struct mamba2_batch {
    int n_heads, headdim, n_groups, conv_channels;
    float delta_min, delta_max;
    struct mamba2_layout state;
    int zx_columns, zx_stride;
    int starts;         /* of chunks in a microbatch, at most             */
    int tiles;          /* of channels of a head                          */
    int state_tiles;    /* of states                                      */
    int heads_together; /* of one block of the outputs                    */
    int8_t *in_packed;  /* [layer]: W of in_proj, or NULL                 */
    bool has_in;        /* mamba2_in.cu takes the shape                   */
    int8_t *x;          /* [layer][d_inner]: x^                           */
    float *x_scale;     /* [layer][n_heads]                               */
    int8_t *bc;         /* [layer][2 n_groups d_state]: B^ | C^           */
    float *bc_scale;    /* [layer][2 n_groups]                            */
    float *delta;       /* [layer][n_heads]                               */
    float *alpha;       /* [layer][n_heads]                               */
    float *squares;     /* [layer][n_heads]: the sum of v^2               */
    uint32_t *largest;  /* [layer][n_heads]: the largest |u|, as bits     */
    int *places;        /* [layer]: of span i, before it                  */
    int8_t *s_q;        /* [layer][starts][n_heads][tiles][state_tiles]   */
    float *s_scale;     /* [layer][starts][n_heads][16 tiles]             */
};

/* Shapes and strides; memory is left to the caller. */
void mamba2_describe(struct mamba2_batch *m, const struct model_config *c);

enum { S_TILE = 1024 /* bytes of S^: 16 channels, 64 states */ };

/* Chunks of a span for whose start S^ can be kept: its first one is not one. */
static __device__ __forceinline__ int starts_of(int n)
{
    return chunks_of(n) - 1;
}

/* The span that row or chunk i belongs to, of the n of a microbatch; first: the
 * member of a span that holds its first one.  Where all spans have equally
 * many, the first look finds it. */
template <int span::*first>
static __device__ __forceinline__ int find_span(const struct microbatch *mb,
                                                int i, int n)
{
    int low = 0, high = mb->n_spans - 1;
    if (high == 0)
        return 0;
    int middle = i * mb->n_spans / n;
    while (low < high) {
        bool is_before = i < mb->spans[middle].*first;
        bool is_after = middle < high && i >= mb->spans[middle + 1].*first;
        if (!is_before && !is_after)
            return middle;
        if (is_before)
            high = middle - 1;
        else
            low = middle + 1;
        middle = (low + high) / 2;
    }
    return low;
}

/* E_DEVICE where a block of so much shared memory is more than the device
 * has. */
static inline enum status mamba2_check_shared(const struct prefill_batch *b,
                                              const struct mamba2_batch *m,
                                              int n_bytes)
{
    if (n_bytes > b->max_shared)
        return fail(E_DEVICE,
                    "the GPU has not the shared memory for heads of %d "
                    "channels with %d states",
                    m->headdim, b->d_state);
    return OK;
}

/* E_DEVICE where the shape needs more shared memory than the device has; the
 * second one chooses heads_together. */
enum status mamba2_states_check(const struct prefill_batch *b,
                                const struct mamba2_batch *m);
enum status mamba2_outputs_check(const struct prefill_batch *b,
                                 struct mamba2_batch *m);

/* Once for each device, before the launches; they check as well. */
enum status mamba2_inputs_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m);
/* Makes in_packed, which the caller frees, where the device wants it and has
 * the memory; the device has to be waited for. */
enum status mamba2_inputs_pack(const struct prefill_batch *b,
                               struct mamba2_batch *m);
enum status mamba2_states_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m);
enum status mamba2_outputs_prepare(const struct prefill_batch *b,
                                   struct mamba2_batch *m);

/* z | x | B | C | dt of x, or silu(z) | x | B | C | dt.  In gemm_int8.cu. */
enum status launch_mamba2_in(struct queue q, const struct prefill_batch *b,
                             const struct mamba2_batch *m, struct tick tick);
/* Whether launch_mamba2_in() takes the largest tile, for rows of a layer. */
bool mamba2_in_is_large(const struct prefill_batch *b,
                        const struct mamba2_batch *m, int rows);
enum status launch_mamba2_gated_in(struct queue q,
                                   const struct prefill_batch *b,
                                   const struct mamba2_batch *m,
                                   struct tick tick);

/* silu(z), x^, B^, C^, delta and alpha, from x; in uz the rest is there for the
 * last rows of a span only. */
enum status launch_mamba2_inputs(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m,
                                 struct tick tick);

/* x^, B^ and C^ of the convolution; delta and alpha. */
enum status launch_mamba2_conv(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick);

/* B^ and C^ alone. */
enum status launch_mamba2_conv_bc(struct queue q, const struct prefill_batch *b,
                                  const struct mamba2_batch *m,
                                  struct tick tick);

/* S of the state, S^ at the starts of chunks, and places. */
enum status launch_mamba2_states(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m,
                                 struct tick tick);

/* v, squares and largest. */
enum status launch_mamba2_outputs(struct queue q, const struct prefill_batch *b,
                                  const struct mamba2_batch *m,
                                  struct tick tick);

/* u_q = the norm of v, quantised; and all of the state but S. */
enum status launch_mamba2_norm(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick);

#endif

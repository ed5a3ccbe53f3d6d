/* decode_kernel.cu -- a layer of Mamba-1 in the decode kernel.
 *
 * Every block keeps the residual h and the state of its own channels.  A layer
 * is
 *
 *   norm, quantise         every block, the whole of h
 *   in_proj, conv, silu    the block's channels            -> u to all
 *   quantise, x_proj       the block's rows of the cluster -> x to the cluster
 *   dt_proj, scan, gate    the block's channels            -> y to all
 *   quantise, out_proj     the block's rows of h           -> h to all
 *
 * So a block waits three times a layer for the whole grid, and once for its
 * cluster: a product needs all of a vector, and the last element may decide the
 * vector's scale.  Nothing else waits: see exchange.cuh, and for the weights
 * weight_stream.cuh.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_loop.cuh"
#include "cuda/decode/decode_mixer.cuh"

/* Receives a vector in v, quantises and multiplies it; returns its scale. */
template <class S>
static __device__ __forceinline__ float
receive_and_multiply(struct decode_block *block, const struct matrix_share *m,
                     const uint64_t *words, int ahead, uint32_t epoch)
{
    const int n = S::d_inner(block);
    receive(block, VECTOR_V, words, n, next_bytes(m, n, m->rows, ahead), epoch);
    const float scale =
        quantise(block, block->v, n, share_amax(block, block->v, n), m->rows);
    multiply<S>(block, m, n, ahead);
    return scale;
}

/* A layer.  in: what in_begin() returned for it; then, for the next one. Phases
 * that have work for few warps give it to different ones, so that the other
 * warps can work ahead while the scan runs. */
template <class S>
static __device__ __forceinline__ void
decode_layer(struct decode_block *block, int layer, struct in_share *in,
             float *image, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const bool is_last = layer + 1 == p->config.n_layer;
    const struct matrix_share *next = is_last ? &p->head : &p->in;
    const int n = S::d_model(block);
    const int after_in = p->scan.bytes + p->x.float_bytes;

    /* in_proj */
    weights_advance(&block->weights, p->in.float_bytes);
    weights_open(&block->weights, packed_norms(&block->packed, layer));
    if (layer > 0)
        /* wait for the grid: the norm needs all of h */
        receive(block, VECTOR_H, p->h_words, n,
                p->norm_bytes + next_bytes(&p->in, n, p->in.rows, after_in),
                epoch - 1);
    float scale = quantise(block, block->x, n, normalise(block, n), p->in.rows);
    weights_open(&block->weights,
                 packed_in(&block->packed, layer) + p->in.float_bytes);
    multiply<S>(block, &p->in, n, after_in);
    free_weights(block);
    in_finish<S>(block, in, image, layer, scale, epoch);

    /* x_proj */
    struct scan_share share;
    weights_open(&block->weights, packed_scan(&block->packed, layer));
    const weight_place scan_floats = block->weights.at;
    if (block->scan_thread < p->scan_threads)
        share = scan_begin<S>(block, scan_floats, block->scan_thread);
    weights_advance(&block->weights, p->scan.bytes);
    weights_open(&block->weights, packed_x(&block->packed, layer));
    const weight_place x_floats = block->weights.at;
    const float x_scale = x_row_scale(block, x_floats, block->thread);
    weights_advance(&block->weights, p->x.float_bytes);
    /* wait for the grid: x_proj needs all of u, and the scale of u */
    scale = receive_and_multiply<S>(block, &p->x, p->u_words,
                                    p->out.bytes + next->float_bytes, epoch);
    x_finish<S>(block, x_floats, x_scale, scale, epoch);

    /* wait for the cluster, in the scan: a channel needs all of dt, B, C */
    weights_open(&block->weights, packed_out(&block->packed, layer));
#pragma unroll 1
    for (int t = block->scan_thread; t < p->scan_threads; t += N_THREADS) {
        if (t >= N_THREADS)
            share = scan_begin<S>(block, scan_floats, t);
        scan<S>(block, &share, image, layer, epoch);
    }
    const int row = min(block->thread, max(block->n_rows, 1) - 1);
    const float out_scale = share_float(block, block->weights.at, row);
    const float h = block->h[block->r0 + row];
    if (!is_last)
        *in = in_begin<S>(block,
                          weights_place(&block->weights,
                                        packed_in(&block->packed, layer + 1),
                                        p->out.bytes),
                          image, layer + 1);
    compute_barrier(); /* the rows of dt_proj are read, and can be freed; this
                        * block's part of y is sent before it asks for y */
    free_weights(block);

    /* out_proj */
    weights_advance(&block->weights, p->out.float_bytes);
    /* wait for the grid: out_proj needs all of y, and the scale of y */
    scale = receive_and_multiply<S>(block, &p->out, p->y_words,
                                    next->float_bytes + p->norm_bytes, epoch);
    free_weights(block);
    if (block->thread < block->n_rows)
        word_publish(p->h_words + block->r0 + row,
                     h + exact_dequantise(block->sums[row], scale, out_scale),
                     epoch);
}

/* Mamba-1, as decode_loop.cuh calls it. */
template <class S> struct decode_mamba1 : S {
    typedef struct in_share in;
    static __device__ __forceinline__ void load(struct decode_block *block,
                                                float *image)
    {
        state_load<S>(block, image);
    }
    static __device__ __forceinline__ void start(struct decode_block *block,
                                                 float *image)
    {
        if (!state_stays(block))
            fetch_past<S>(block, image, 0);
    }
    static __device__ __forceinline__ in begin(struct decode_block *block,
                                               float *image)
    {
        return in_begin<S>(block, block->weights.at, image, 0);
    }
    static __device__ __forceinline__ void layer(struct decode_block *block,
                                                 int layer, in *in,
                                                 float *image, uint32_t epoch)
    {
        decode_layer<S>(block, layer, in, image, epoch);
    }
    static __device__ __forceinline__ void store(struct decode_block *block,
                                                 float *image, int n)
    {
        state_store<S>(block, image);
    }
};

static bool is_shape(const struct model_config *c, int d_model, int dt_rank)
{
    return c->d_model == d_model && c->d_inner == 2 * d_model &&
           c->dt_rank == dt_rank && c->d_state == 16 && c->d_conv == 4;
}

decode_function *decode_choose_kernel(const struct model_config *c)
{
    if (c->mixer == MIXER_MAMBA2)
        return decode_choose_mamba2(c);
    if (is_shape(c, 512, 32))
        return decode_kernel<decode_mamba1<decode_shape<512, 1024, 32, 16, 4>>>;
    if (is_shape(c, 1024, 64))
        return decode_kernel<
            decode_mamba1<decode_shape<1024, 2048, 64, 16, 4>>>;
    if (is_shape(c, 1792, 112))
        return decode_kernel<
            decode_mamba1<decode_shape<1792, 3584, 112, 16, 4>>>;
    return decode_kernel<decode_mamba1<decode_shape<0, 0, 0, 0, 0>>>;
}

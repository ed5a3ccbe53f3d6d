/* decode_mamba2.cu -- a layer of Mamba-2 in the decode kernel.
 *
 * Every block keeps the residual h.  A cluster has whole heads, and a block has
 * some of its channels.  A layer is
 *
 *   norm, quantise        every block, the whole of h
 *   in_proj, conv, silu   the block's rows of the cluster -> B, C, delta,
 * alpha, max |x| to the cluster recurrence, gate      the block's channels -> v
 * to all norm, quantise        every block, the whole of v out_proj the block's
 * rows of h           -> h to all
 *
 * So a block waits twice a layer for the whole grid, and once for its cluster.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_loop.cuh"
#include "cuda/decode/decode_mamba2_chunk.cuh"
#include "cuda/decode/decode_mamba2_norm.cuh"
#include "cuda/decode/decode_mamba2_warp.cuh"

/* ---- in_proj ------------------------------------------------------------- */

/* What a thread knows of its row of in_proj, or rows, before the product. */
template <class S, bool is_one> struct floats_of {
    typedef struct mamba2_in type;
};
template <class S> struct floats_of<S, true> {
    typedef struct warp_in type;
};
template <class S> using in_of = typename floats_of<S, S::is_one>::type;

template <class S>
static __device__ __forceinline__ in_of<S>
floats_begin(const struct decode_block *block, int layer)
{
    if constexpr (S::is_one)
        return warp_begin(block, block->weights.at, layer);
    else
        return in_begin<S>(block, block->weights.at, layer);
}

/* The norm of h, as int8 in registers; returns its scale.  Waits for the first
 * rows of in_proj, and `ahead` bytes after the last. */
template <class S>
static __device__ __forceinline__ float
in_vector(int4 *q, struct decode_block *block, int layer, int ahead,
          uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n = S::d_model(block);
    const int rows = next_bytes(&p->in, n, p->in.rows, ahead);
    /* wait for the grid: the norm needs all of h */
    if constexpr (S::has_strips) {
        float w[S::model_each];
        strip_weights<S::model_each>(w, block, block->weights.at, 0);
        weights_advance(&block->weights, p->norm_bytes);
        if (layer > 0) {
            receive_strips(block, VECTOR_H, p->h_words, n, rows, epoch - 1);
        } else {
            if (block->warp == WAITING_WARP)
                weights_wait(&block->weights, rows);
            compute_barrier(); /* weights are there */
        }
        return normalise_strip<S::model_each * WARP>(q, block, w);
    } else {
        if (layer > 0)
            receive(block, VECTOR_H, p->h_words, n, p->norm_bytes + rows,
                    epoch - 1);
        else if (block->warp == WAITING_WARP)
            weights_wait(&block->weights, p->norm_bytes + rows);
        const float scale =
            quantise(block, block->x, n, normalise(block, n), 0);
        compute_barrier(); /* q and the weights are there */
#pragma unroll
        for (int s = 0; s < S::model_strips; s++) {
            const int col = s * STRIP_BYTES + block->lane * COPY_ALIGN;
            q[s] = make_int4(0, 0, 0, 0);
            if (col < n)
                q[s] = *(const int4 *)(block->q + col);
        }
        return scale;
    }
}

/* in_proj of the norm of h, into the block's sums; returns its scale. */
template <class S>
static __device__ __forceinline__ float
in_product(struct decode_block *block, int layer, int ahead, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n = S::d_model(block);
    /* wait for the grid: the norm needs all of h */
    if (layer > 0)
        receive(block, VECTOR_H, p->h_words, n,
                p->norm_bytes + next_bytes(&p->in, n, p->in.rows, ahead),
                epoch - 1);
    const float scale =
        quantise(block, block->x, n, normalise(block, n), p->in.rows);
    multiply<S>(block, &p->in, n, ahead);
    free_weights(block);
    return scale;
}

/* ---- out_proj ------------------------------------------------------------ */

/* out_proj's sums.  Products of strips find them cleared. */
template <class S>
static __device__ __forceinline__ int32_t *
out_sums(const struct decode_block *block)
{
    return S::has_out_strips ? (int32_t *)(block->memory +
                                           block->plan->memory.mamba2.out_sums)
                             : block->sums;
}

/* out_proj of the norm of v; returns its scale, and that of the thread's row.
 */
template <class S>
static __device__ __forceinline__ float
out_product(struct decode_block *block, int ahead, int row, float *row_scale,
            uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n = S::d_inner(block);
    const weight_place norm = block->weights.at;
    const int rows =
        p->out.float_bytes + next_bytes(&p->out, n, p->out.rows, ahead);
    float scale;
    int4 q;
    /* wait for the grid: the norm needs all of v */
    if constexpr (S::has_out_strips) {
        float w[STRIP_EACH];
        head_weights<S::inner_each * WARP>(w, block, norm);
        weights_advance(&block->weights, p->x.bytes);
        receive_strips(block, VECTOR_V, p->y_words, n, rows, epoch);
        free_weights(block);
        copy_wait_all();
        scale = normalise_heads<S::inner_each * WARP>(&q, block, w);
    } else {
        receive(block, VECTOR_V, p->y_words, n, p->x.bytes + rows, epoch);
        copy_wait_all();
        scale = quantise_gated<S>(block, norm, p->out.rows);
        free_weights(block);
        weights_advance(&block->weights, p->x.bytes);
    }
    *row_scale = share_float(block, block->weights.at, row);
    weights_advance(&block->weights, p->out.float_bytes);
    if constexpr (S::has_out_strips)
        multiply_strip<S, S::inner_each / STRIP_EACH>(block, &p->out, q, ahead,
                                                      out_sums<S>(block));
    else
        multiply<S>(block, &p->out, n, ahead);
    return scale;
}

/* ---- a layer ------------------------------------------------------------- */

/* Starts to load the state of the layer that follows, where it does not stay.
 * All have left the layer before, whose place it takes. */
static __device__ __forceinline__ void
fetch_next(const struct decode_block *block, int layer)
{
    const bool is_last = layer + 1 == block->plan->config.n_layer;
    if (!state_stays(block))
        fetch_state(block, is_last ? 0 : layer + 1, block->mamba2.slot ^ 1);
}

/* From h to the block's part of v.  Returns the thread's element of h, which is
 * read before that part is sent: for one shape it is warp 0's. */
template <class S>
static __device__ __forceinline__ float layer_in(struct decode_block *block,
                                                 int layer, const in_of<S> *in,
                                                 float *image, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    /* The norm of v has to be there before a barrier that precedes v. */
    const int ahead = p->scan.bytes + p->x.bytes;
    const int row = min(block->r0 + block->thread, S::d_model(block) - 1);
    float h;
    weights_advance(&block->weights, p->in.float_bytes);
    if constexpr (S::is_one) {
        int4 q[S::model_strips];
        const float scale = in_vector<S>(q, block, layer, ahead, epoch);
        const int32_t sum = multiply_warp<S::model_strips>(block, q, ahead);
        h = block->h[row];
        if (S::has_out_strips && block->thread < p->n_rows)
            out_sums<S>(block)[block->thread] = 0;
        /* wait for the cluster in this: a head needs all of B, C, x */
        warp_finish<S::unit_channels>(block, in, sum, scale, block->weights.at,
                                      layer, epoch);
        fetch_next(block, layer);
    } else {
        const float scale = in_product<S>(block, layer, ahead, epoch);
        h = block->h[row];
        in_finish<S>(block, in, block->sums, layer, scale, epoch);
        compute_barrier(); /* x and silu(z) are there; h is read, before v is
                            * sent; all have left the layer before */
        fetch_next(block, layer);
        /* wait for the cluster in this: a head needs all of B, C, x */
        run_heads<S>(block, block->weights.at, layer, epoch);
    }
    weights_advance(&block->weights, p->scan.bytes);
    if (block->mamba2.place == CHUNK - 1) {
        compute_barrier(); /* B^ and w of the byte are stored */
        end_chunk<S>(block, image, layer);
    }
    return h;
}

/* From v to the block's rows of h, whose old elements the threads have. */
template <class S>
static __device__ __forceinline__ void
layer_out(struct decode_block *block, int layer, float h, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const bool is_last = layer + 1 == p->config.n_layer;
    const int next = is_last ? p->head.float_bytes : p->in.float_bytes;
    const int row = min(block->thread, p->n_rows - 1);
    float row_scale;
    const float scale =
        out_product<S>(block, next + p->norm_bytes, row, &row_scale, epoch);
    free_weights(block);
    if (block->thread < block->n_rows)
        word_publish(
            p->h_words + block->r0 + row,
            h + exact_dequantise(out_sums<S>(block)[row], scale, row_scale),
            epoch);
}

/* Mamba-2, as decode_loop.cuh calls it. */
template <class S> struct decode_mamba2 : S {
    typedef in_of<S> in;
    static __device__ __forceinline__ void load(struct decode_block *block,
                                                float *image)
    {
        mamba2_block_make(block);
        if (S::is_one)
            mamba2_warp_make(block);
        mamba2_load(block, image);
    }
    static __device__ __forceinline__ void start(struct decode_block *block,
                                                 float *image)
    {
    }
    static __device__ __forceinline__ in begin(struct decode_block *block,
                                               float *image)
    {
        return floats_begin<S>(block, 0);
    }
    static __device__ __forceinline__ void layer(struct decode_block *block,
                                                 int layer, in *in,
                                                 float *image, uint32_t epoch)
    {
        const bool is_last = layer + 1 == block->plan->config.n_layer;
        const float h = layer_in<S>(block, layer, in, image, epoch);
        layer_out<S>(block, layer, h, epoch);
        block->mamba2.slot ^= 1;
        if (is_last)
            block->mamba2.place = (block->mamba2.place + 1) % CHUNK;
        else
            *in = floats_begin<S>(block, layer + 1);
    }
    static __device__ __forceinline__ void store(struct decode_block *block,
                                                 float *image, int n)
    {
        mamba2_store(block, image, n);
    }
};

decode_function *decode_choose_mamba2(const struct model_config *c)
{
    if (mamba2_is_shape(c, 512))
        return decode_kernel<decode_mamba2<mamba2_shape<512, 16, 64, 64, 4>>>;
    if (mamba2_is_shape(c, 1024))
        return decode_kernel<decode_mamba2<mamba2_shape<1024, 32, 64, 64, 4>>>;
    if (mamba2_is_shape(c, 1792))
        return decode_kernel<decode_mamba2<mamba2_shape<1792, 56, 64, 64, 4>>>;
    return decode_kernel<decode_mamba2<mamba2_shape<0, 0, 0, 0, 0>>>;
}

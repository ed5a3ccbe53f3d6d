/* batch_pack.cu -- a second copy of the weights, in the order of use.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch_pack.cuh"

enum { PACK_THREADS = 256 };

enum packed { PACK_IN, PACK_X, PACK_OUT, PACK_HEAD };

/* Where unit number i of a block comes from (see batch_share): x is the tile of
 * eight rows, -1 for none; y is the part of its depth. */
static __device__ int2 unit_at(const struct batch_model &m, enum packed what,
                               int rank, int i)
{
    const struct batch_share &s = m.share;
    const int warp = i % BATCH_WARPS, stage = i / BATCH_WARPS;
    if (what == PACK_IN) {
        int turns = 2 * (m.d_inner / m.size) / 8 / BATCH_WARPS,
            half = turns / 2;
        int j = stage % turns;
        return make_int2((rank * BATCH_WARPS + warp) * half + j % half +
                             (j < half ? 0 : m.d_inner / 8),
                         stage / turns);
    }
    if (what == PACK_X)
        return make_int2(rank + stage / s.x_stages * m.size,
                         stage % s.x_stages * BATCH_WARPS + warp);
    if (what == PACK_HEAD)
        return make_int2(head_tile(rank, m.size) + i / s.in_units,
                         i % s.in_units);
    int warps = out_is_shared(s.n_out_tiles) ? BATCH_WARPS / 2 : BATCH_WARPS;
    int tile = warp % warps;
    return make_int2(tile < s.n_out_tiles ? rank * s.n_out_tiles + tile : -1,
                     stage + warp / warps * s.out_units);
}

static __global__ void pack_units(uint32_t *to, struct cuda_matrix w,
                                  struct batch_model m, enum packed what,
                                  int rank, int n)
{
    int i = blockIdx.x * PACK_THREADS + threadIdx.x;
    if (i >= n * UNIT_BYTES / 4)
        return;
    int word = i % 4, lane = i / 4 % WARP;
    int2 unit = unit_at(m, what, rank, i / (UNIT_BYTES / 4));
    int row = unit.x * 8 + lane / 4, room = m.dt_room - m.dt_rank;
    bool is_there = unit.x >= 0;
    if (what == PACK_X && row >= m.dt_rank) { /* zeros in the room after dt */
        is_there = row >= m.dt_room;
        row -= room;
    }
    int at = (unit.y * 4 + word) * 16 + lane % 4 * 4;
    to[i] = is_there && row < w.rows && at < w.stride
                ? *(const uint32_t *)(w.q + (size_t)row * w.stride + at)
                : 0;
}

/* dt_proj, word by word, the channels side by side. */
static __global__ void pack_dt(uint32_t *to, struct cuda_matrix w, int first,
                               int channels, int words)
{
    int i = blockIdx.x * PACK_THREADS + threadIdx.x;
    if (i < channels * words)
        to[i] = *(const uint32_t *)(w.q +
                                    (size_t)(first + i % channels) * w.stride +
                                    i / channels * 4);
}

static __global__ void pack_rows(float *to, const float *from, int rows,
                                 int cols, int stride)
{
    int i = blockIdx.x * PACK_THREADS + threadIdx.x;
    if (i < rows * cols)
        to[i] = from[(size_t)(i / cols) * stride + i % cols];
}

/* The n units of the block of this rank. */
static void put_units(char *to, const struct cuda_matrix *w,
                      const struct batch_model *m, enum packed what, int rank,
                      int n, cudaStream_t stream)
{
    pack_units<<<ceil_div(n * UNIT_BYTES / 4, PACK_THREADS), PACK_THREADS, 0,
                 stream>>>((uint32_t *)to, *w, *m, what, rank, n);
}

static void put_rows(char *to, const float *from, int rows, int cols,
                     int stride, cudaStream_t stream)
{
    if (from && rows * cols > 0)
        pack_rows<<<ceil_div(rows * cols, PACK_THREADS), PACK_THREADS, 0,
                    stream>>>((float *)to, from, rows, cols, stride);
}

static void put_floats(char *to, const float *from, int n, cudaStream_t stream)
{
    put_rows(to, from, 1, n, n, stream);
}

/* The share of a layer that the block of this rank has. */
static void put_share(char *to, const struct batch_model *m,
                      const struct cuda_layer *l, int rank, int channels,
                      cudaStream_t stream)
{
    const struct batch_share *at = &m->share;
    int d = m->d_model, e = m->d_inner, first = rank * channels;
    int out = d / m->size;
    put_floats(to + at->norm, l->norm, d, stream);
    put_floats(to + at->norm_bias, l->norm_bias, d, stream);
    put_rows(to + at->conv, l->conv + first, BATCH_TAPS, channels, e, stream);
    put_floats(to + at->conv_bias, l->conv_bias + first, channels, stream);
    put_floats(to + at->dt_scale, l->dt_proj.scale + first, channels, stream);
    put_floats(to + at->dt_bias, l->dt_bias + first, channels, stream);
    put_floats(to + at->d, l->d + first, channels, stream);
    put_rows(to + at->in_scale, l->in_proj.scale + first, 2, channels, e,
             stream);
    put_floats(to + at->x_scale, l->x_proj.scale, m->dt_rank, stream);
    put_floats(to + at->x_scale + m->dt_room * 4, l->x_proj.scale + m->dt_rank,
               2 * BATCH_STATES, stream);
    pack_dt<<<ceil_div(channels * m->dt_words, PACK_THREADS), PACK_THREADS, 0,
              stream>>>((uint32_t *)(to + at->dt_proj), l->dt_proj, first,
                        channels, m->dt_words);
    put_rows(to + at->a, l->a_log2e + first, BATCH_STATES, channels, e, stream);
    put_floats(to + at->out_scale, l->out_proj.scale + rank * out, out, stream);

    int in = at->in_units * 2 * channels / 8;
    int x = at->n_x_tiles * at->x_stages * BATCH_WARPS;
    to += at->stages;
    put_units(to, &l->in_proj, m, PACK_IN, rank, in, stream);
    to += (size_t)in * UNIT_BYTES;
    put_units(to, &l->x_proj, m, PACK_X, rank, x, stream);
    to += (size_t)x * UNIT_BYTES;
    put_units(to, &l->out_proj, m, PACK_OUT, rank, at->out_units * BATCH_WARPS,
              stream);
}

static void put_head(char *to, const struct batch_model *m,
                     const struct cuda_model *from, int rank,
                     cudaStream_t stream)
{
    const struct batch_head *at = &m->head;
    int first = head_tile(rank, m->size);
    int tiles = head_tile(rank + 1, m->size) - first, d = m->d_model;
    put_floats(to + at->norm, from->norm_f, d, stream);
    put_floats(to + at->norm_bias, from->norm_f_bias, d, stream);
    put_floats(to + at->scale, from->lm_head.scale + first * 8, tiles * 8,
               stream);
    put_units(to + at->units, &from->lm_head, m, PACK_HEAD, rank,
              tiles * m->share.in_units, stream);
}

enum status batch_pack(void **weights, struct batch_model *m,
                       const struct cuda_model *from, int channels,
                       cudaStream_t stream)
{
    size_t shares = (size_t)m->n_layer * m->size * m->share.bytes;
    size_t size = shares + (size_t)m->size * m->head.bytes;
    CUDA_TRY(cudaMalloc(weights, size), "memory for the weights");
    CUDA_TRY(cudaMemsetAsync(*weights, 0, size, stream), "placing the weights");
    char *to = (char *)*weights;
    m->shares = to;
    for (int i = 0; i < m->n_layer; i++) {
        for (int rank = 0; rank < m->size; rank++, to += m->share.bytes)
            put_share(to, m, &from->layers[i], rank, channels, stream);
    }
    m->heads = to;
    for (int rank = 0; rank < m->size; rank++, to += m->head.bytes)
        put_head(to, m, from, rank, stream);
    CUDA_TRY(cudaGetLastError(), "placing the weights");
    return cuda_status(cudaStreamSynchronize(stream), "placing the weights");
}

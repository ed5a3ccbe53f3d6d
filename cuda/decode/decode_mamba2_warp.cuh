/* decode_mamba2_warp.cuh -- in_proj and the recurrence, in kernels for one
 * shape: from the int8 of h to v without a barrier.
 *
 * A warp multiplies the rows of in_proj that it finishes: those of its
 * channels, and some of B, C and dt.  Lane k has row k: decode_mamba2_plan.cuh
 * says which. Then the warp asks for all words of the cluster at once, and
 * computes v of its channels; lane k has channel k.  For the rest, a lane has
 * bytes s = lane and lane + 32 of the chunk, and states 2 lane and 2 lane + 1.
 *
 * One group, heads of 64, 64 states, 4 taps.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_WARP_CUH
#define MAMBYTE_DECODE_MAMBA2_WARP_CUH

#include "cuda/decode/decode_mamba2_heads.cuh"
#include "cuda/decode/decode_mamba2_strip.cuh"

enum { N_STATES = 64, N_TAPS = 4 };

/* ---- the lane's row ------------------------------------------------------ */

/* Which lane's B or C this one sends to rank lane % 16, in round i: two rows go
 * in a round.  -1: none. */
static __device__ __forceinline__ int sends_of_lane(uint32_t lanes, int lane,
                                                    int round)
{
    for (int i = 2 * round + lane / 16; i > 0; i--)
        lanes &= lanes - 1;
    return __ffs(lanes) - 1;
}

/* The word of B or C of a lane's row. */
static __device__ __forceinline__ uint32_t
bc_address(const struct decode_block *block, int lane, int rank)
{
    const struct model_config *c = &block->plan->config;
    const int row = __shfl_sync(WHOLE_WARP, block->mamba2.row, max(lane, 0));
    const int word = max(row - 2 * c->d_inner, 0);
#ifdef HAS_CLUSTER
    return cluster_address(
        memory_words(block, block->plan->memory.mamba2.bc_words) + word,
        min(rank, block->plan->cluster - 1));
#else
    return word + rank;
#endif
}

static __device__ __forceinline__ void
mamba2_warp_make(struct decode_block *block)
{
    const struct decode_plan *p = block->plan;
    struct mamba2_block *m = &block->mamba2;
    const int n_bc = 2 * N_STATES, bc = 2 * p->config.d_inner;
    m->unit = mamba2_unit_of(&m->share, p->config.headdim, block->warp);
    m->row = -1;
    if (block->lane * N_WARPS + block->warp < p->in.rows)
        m->row = p->deal.rows[block->packed.block * p->in.rows +
                              block->lane * N_WARPS + block->warp];
    m->bc_lanes = __ballot_sync(WHOLE_WARP, m->row >= bc && m->row < bc + n_bc);
    m->dt_lanes = __ballot_sync(WHOLE_WARP, m->row >= bc + n_bc);
    m->send_from = sends_of_lane(m->bc_lanes, block->lane, 0);
    m->send_to = bc_address(block, m->send_from, block->lane % 16);
    if (block->lane % 16 >= p->cluster)
        m->send_from = -1;
    for (int i = 0; i < 2; i++)
        m->ranks[i] = senders_of(p, &m->share, m->share.first_head + i);
    m->senders = senders_of(p, &m->share, m->unit.head);
}

/* What a lane knows of its row before the product. */
struct warp_in {
    float scale;
    float sum; /* of the convolution, without its newest input; dt_bias */
    float tap; /* the factor of that input; a_log2e */
};

/* Reads the floats of the layer, which lie at that place. */
static __device__ __forceinline__ struct warp_in
warp_begin(const struct decode_block *block, weight_place floats, int layer)
{
    const struct decode_plan *p = block->plan;
    const int n = p->in.rows, row = block->mamba2.row;
    const int i = block->lane * N_WARPS + block->warp;
    const bool is_dt = row >= 2 * p->config.d_inner + 2 * N_STATES;
    struct warp_in f = {0.0f, 0.0f, 0.0f};
    if (row < 0)
        return f;
    f.scale = share_float(block, floats, i);
    f.sum = share_float(block, floats, n + i);
    f.tap = share_float(block, floats, (is_dt ? 2 : 1 + N_TAPS) * n + i);
    if (row < p->config.d_inner || is_dt)
        return f;
    const float *past = state_at(block, layer).past + i;
#pragma unroll
    for (int t = 0; t < N_TAPS - 1; t++)
        f.sum = fmaf(share_float(block, floats, (2 + t) * n + i), past[t * n],
                     f.sum);
    return f;
}

/* The newest input of the lane's row moves in, and older ones move on. */
static __device__ __forceinline__ void
warp_keep_past(const struct decode_block *block, int layer, float x)
{
    const struct decode_plan *p = block->plan;
    const int n = p->in.rows, row = block->mamba2.row;
    const int i = block->lane * N_WARPS + block->warp;
    if (row < p->config.d_inner || row >= 2 * p->config.d_inner + 2 * N_STATES)
        return;
    const float *past = state_at(block, layer).past + i;
    float *kept = state_kept(block, layer).past + i;
#pragma unroll
    for (int t = 1; t < N_TAPS - 1; t++)
        kept[(t - 1) * n] = past[t * n];
    kept[(N_TAPS - 2) * n] = x;
}

/* ---- the product --------------------------------------------------------- */

/* Four of a warp's rows, row0 on, of those at the place of the weights: lane k
 * gets the sum of row row0 + k % 4. */
template <int n_strips>
static __device__ __forceinline__ int32_t
multiply_four(const struct decode_block *block, const int4 q[n_strips],
              int row0, int stride)
{
    int32_t sum[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        sum[k] = 0;
#pragma unroll
        for (int s = 0; s < n_strips; s++) {
            const int col = s * STRIP_BYTES + block->lane * COPY_ALIGN;
            const int4 w = *(const int4 *)weights_at(
                &block->weights, block->weights.at,
                ((row0 + k) * N_WARPS + block->warp) * stride +
                    min(col, stride - COPY_ALIGN));
            sum[k] = dot16(w, q[s], sum[k]);
        }
    }
    return warp_sum_each<4>(sum, block->lane % 4);
}

/* The sum of the lane's row.  q: the lane's parts of the vector, in strips. The
 * first rows are there; waits for the others, and the `ahead` bytes after them.
 */
template <int n_strips>
static __device__ __forceinline__ int32_t
multiply_warp(struct decode_block *block, const int4 q[n_strips], int ahead)
{
    const struct decode_plan *p = block->plan;
    const struct matrix_share *m = &p->in;
    int32_t mine = 0;
    int left = m->rows, first = 0; /* first: of a warp's rows */
#pragma unroll 1
    for (;;) {
        const int n_rows = min(m->rows_at_once, left);
        const int n = ceil_div(n_rows, N_WARPS);
#pragma unroll 1
        for (int row = 0; row < n; row += 4) {
            /* Past the last rows come other weights, whose sums are dropped. */
            const int32_t sum =
                multiply_four<n_strips>(block, q, row, m->stride);
            mine = block->lane / 4 == (first + row) / 4 ? sum : mine;
        }
        weights_advance(&block->weights, n_rows * m->stride);
        left -= n_rows;
        first += n;
        if (left <= 0)
            return mine;
        compute_barrier(); /* these rows are read */
        free_weights(block);
        if (block->warp == WAITING_WARP)
            weights_wait(&block->weights,
                         next_bytes(m, m->stride, left, ahead));
        compute_barrier(); /* weights are there */
    }
}

/* ---- what goes to the cluster -------------------------------------------- */

/* The largest |x| of the warp's channels, to the blocks that have channels of
 * its head.  A block that has channels of two heads sends 0 for the one of
 * which this warp has none. */
static __device__ __forceinline__ void
send_warp_maximum(const struct decode_block *block, float y, uint32_t epoch)
{
    const struct mamba2_block *m = &block->mamba2;
    const struct mamba2_share *s = &m->share;
    const int size = block->plan->cluster;
    const bool is_x = block->lane < mamba2_unit_channels(&m->unit);
    const float most = exact_float(warp_max(is_x ? magnitude_bits(y) : 0));
    uint64_t *words =
        memory_words(block, block->plan->memory.mamba2.maxima) + block->warp;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int h = s->first_head + i, rank = m->ranks[i].first + block->lane;
        if (h < s->end_head && rank <= m->ranks[i].last)
            cluster_word_publish(words +
                                     ((h - s->h0) * size + s->rank) * N_WARPS,
                                 h == m->unit.head ? most : 0.0f, epoch, rank);
    }
}

/* B and C of the warp's rows. */
static __device__ __forceinline__ void
send_warp_bc(const struct decode_block *block, float y, uint32_t epoch)
{
#ifdef HAS_CLUSTER
    const struct mamba2_block *m = &block->mamba2;
    const float own = __shfl_sync(WHOLE_WARP, y, max(m->send_from, 0));
    if (m->send_from >= 0)
        cluster_store_relaxed(m->send_to, word_make(own, epoch));
    const int rounds = (__popc(m->bc_lanes) + 1) / 2;
#pragma unroll 1
    for (int i = 1; i < rounds; i++) {
        const int from = sends_of_lane(m->bc_lanes, block->lane, i);
        const uint32_t to = bc_address(block, from, block->lane % 16);
        const float next = __shfl_sync(WHOLE_WARP, y, max(from, 0));
        if (from >= 0 && block->lane % 16 < block->plan->cluster)
            cluster_store_relaxed(to, word_make(next, epoch));
    }
#endif
}

/* delta and alpha of the warp's rows of dt.  dt: with its bias; w: exp(-|dt|),
 * of which exact_softplus_of() makes the rest. */
static __device__ __forceinline__ void
send_warp_steps(const struct decode_block *block, float dt, float w,
                float a_log2e, uint32_t epoch)
{
    const struct mamba2_block *m = &block->mamba2;
    const struct model_config *c = &block->plan->config;
    const float softplus = exact_softplus_of(dt, w);
    const float delta =
        exact_min(exact_max(softplus, c->delta_min), c->delta_max);
    const float alpha = exact_alpha(delta, a_log2e);
#pragma unroll 1
    for (uint32_t lanes = m->dt_lanes; lanes != 0; lanes &= lanes - 1) {
        const int from = __ffs(lanes) - 1;
        const int row = __shfl_sync(WHOLE_WARP, m->row, from);
        const float d = __shfl_sync(WHOLE_WARP, delta, from);
        const float a = __shfl_sync(WHOLE_WARP, alpha, from);
        uint64_t *words =
            memory_words(block, block->plan->memory.mamba2.steps) +
            2 * (row - 2 * c->d_inner - 2 * N_STATES - m->share.h0);
        if (block->lane < block->plan->cluster) {
            cluster_word_publish(words, d, epoch, block->lane);
            cluster_word_publish(words + 1, a, epoch, block->lane);
        }
    }
}

/* ---- what comes from it -------------------------------------------------- */

/* The words that a lane needs: B, C of its states; the largest |x| of two
 * warps; delta and alpha. */
struct warp_words {
    float2 b, c, maxima, step;
};

static __device__ __forceinline__ struct warp_words
warp_receive(const struct decode_block *block, uint32_t epoch)
{
    const struct mamba2_block *m = &block->mamba2;
    const struct mamba2_memory *at = &block->plan->memory.mamba2;
    const int head = m->unit.head - m->share.h0;
    const uint64_t *b = memory_words(block, at->bc_words) + 2 * block->lane;
    const uint64_t *step = memory_words(block, at->steps) + 2 * head;
    const int rank = m->senders.first + block->lane / 4;
    const bool has_maxima = rank <= m->senders.last;
    const uint64_t *maxima =
        has_maxima ? memory_words(block, at->maxima) +
                         (head * block->plan->cluster + rank) * N_WARPS +
                         block->lane % 4 * 2
                   : step;
    const uint64_t *words[4] = {b, b + N_STATES, step, maxima};
    float2 x[4];
    /* All at once: each wait of its own would take as long. */
    cluster_pairs_wait<4>(x, words, epoch);
    if (!has_maxima)
        x[3] = make_float2(0.0f, 0.0f);
    return {x[0], x[1], x[3], x[2]};
}

/* ---- the state ----------------------------------------------------------- */

/* What of the state a warp has in registers before those words come; n: its
 * channels, at most. */
template <int n> struct warp_state {
    int4 b[2][N_STATES / COPY_ALIGN]; /* B^ of the lane's bytes */
    uint32_t x[n], s[n];              /* x^ of its bytes, S^ of its states */
    float w[2], e;
    float s_scale, d; /* of the lane's channel */
};

template <int n>
static __device__ __forceinline__ struct warp_state<n>
warp_load(const struct decode_block *block, weight_place d, int layer) {
    const struct mamba2_deal *deal = &block->plan->deal;
    const struct mamba2_unit *u = &block->mamba2.unit;
    const struct mamba2_parts from = state_at(block, layer);
    const int h = parity_read(block) * deal->n_heads + u->head -
                  block->mamba2.share.first_head;
    struct warp_state<n> to;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int s = block->lane + k * WARP;
        const int8_t *row = from.b + s * (N_STATES + B_GAP);
#pragma unroll
        for (int i = 0; i < N_STATES / COPY_ALIGN; i++)
            to.b[k][i] = s < block->mamba2.place
                             ? *(const int4 *)(row + i * COPY_ALIGN)
                             : make_int4(0, 0, 0, 0);
        to.w[k] = from.w[h * CHUNK + s];
    }
    to.e = from.e[h];
#pragma unroll
    for (int i = 0; i < n; i++) {
        const int next = u->first + i * u->stride, at = 2 * block->lane;
        const int c = next < u->end ? next : u->first; /* no other warp's */
        to.x[i] = *(const uint16_t *)(from.x + c * CHUNK + at);
        to.s[i] = *(const uint16_t *)(from.s_q + c * N_STATES + at);
    }
    const int own = u->first + block->lane % n * u->stride;
    to.s_scale = from.s_scale[own < u->end ? own : u->first];
    to.d = share_float(block, d, own < u->end ? own : u->first);
    return to;
}

/* ---- the recurrence ------------------------------------------------------ */

/* g of the lane's bytes before this one, and of this one. */
template <int n>
static __device__ __forceinline__ void
warp_scores(int32_t g[2], const struct decode_block *block,
            const struct warp_state<n> *state, uint32_t b, uint32_t c)
{
    const int place = block->mamba2.place;
    int8_t *room = (int8_t *)block->memory + block->plan->memory.mamba2.c_q +
                   block->warp * block->plan->memory.mamba2.c_stride;
    *(uint16_t *)(room + 2 * block->lane) = (uint16_t)c;
    const int32_t own = (int32_t)warp_sum((uint32_t)dot_pair(c, b));
    __syncwarp(); /* every lane reads all of C^ */
    int32_t half[2][2] = {};
#pragma unroll
    for (int i = 0; i < N_STATES / COPY_ALIGN; i++) {
        const int4 part = *(const int4 *)(room + i * COPY_ALIGN);
#pragma unroll
        for (int k = 0; k < 2; k++)
            half[k][i % 2] = dot16(state->b[k][i], part, half[k][i % 2]);
    }
#pragma unroll
    for (int k = 0; k < 2; k++)
        g[k] = block->lane + k * WARP == place ? own : half[k][0] + half[k][1];
}

/* What the warp stores for all that have channels of its head, and, if it is
 * the block's first, of its group. */
static __device__ __forceinline__ void
warp_keep(const struct decode_block *block, int layer, uint32_t b,
          const float w[2], float e)
{
    const struct mamba2_deal *deal = &block->plan->deal;
    const struct mamba2_unit *u = &block->mamba2.unit;
    const int first = block->mamba2.share.first_head;
    const int start =
        max(u->head * 2 * WARP - block->c0, 0); /* of the head, here */
    const struct mamba2_parts kept = state_kept(block, layer);
    if (block->warp == 0) {
        const int at =
            block->mamba2.place * (N_STATES + B_GAP) + 2 * block->lane;
        *(uint16_t *)(state_at(block, layer).b + at) = (uint16_t)b;
        if (!state_stays(block))
            *(uint16_t *)(kept.b + at) = (uint16_t)b;
    }
    if (u->first != start)
        return;
    const int h = parity_left(block) * deal->n_heads + u->head - first;
    kept.w[h * CHUNK + block->lane] = w[0];
    kept.w[h * CHUNK + block->lane + WARP] = w[1];
    if (block->lane == 0)
        kept.e[h] = e;
}

/* Hands on v of the lane's channel, if it has one, and keeps x^ of it. */
template <int n>
static __device__ __forceinline__ void
warp_send(const struct decode_block *block, float v, int8_t x, int layer,
          uint32_t epoch)
{
    const struct mamba2_unit *u = &block->mamba2.unit;
    const int channel = u->first + block->lane * u->stride;
    if (block->lane >= n || channel >= u->end)
        return;
    word_publish(block->plan->y_words + block->c0 + channel, v, epoch);
    const int at = channel * CHUNK + x_place(block->mamba2.place);
    state_at(block, layer).x[at] = x;
    if (!state_stays(block))
        state_kept(block, layer).x[at] = x;
}

/* v of the warp's channels, to all blocks.  x, gate: of the lane's channel. */
template <int n>
static __device__ __forceinline__ void
warp_recur(const struct decode_block *block, const struct warp_state<n> *state,
           float x, float gate, int layer, uint32_t epoch)
{
    const int place = block->mamba2.place, lane = block->lane;
    const struct warp_words words = warp_receive(block, epoch);
    const struct exact_scale b_scale = scale_of(
        warp_max(max(magnitude_bits(words.b.x), magnitude_bits(words.b.y))));
    const struct exact_scale c_scale = scale_of(
        warp_max(max(magnitude_bits(words.c.x), magnitude_bits(words.c.y))));
    const struct exact_scale x_scale = scale_of(warp_max(
        max(magnitude_bits(words.maxima.x), magnitude_bits(words.maxima.y))));
    const uint32_t b = pair_of(words.b.x, words.b.y, b_scale);
    const uint32_t c = pair_of(words.c.x, words.c.y, c_scale);
    const float delta = words.step.x, alpha = words.step.y;
    int32_t g[2];
    warp_scores<n>(g, block, state, b, c);

    const float e =
        place == 0 ? alpha : exact_or_zero(state->e * alpha, EXACT_DECAY_MIN);
    const float weight = exact_weight(delta, x_scale.scale, b_scale.scale);
    float w[2], m[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int s = lane + k * WARP;
        w[k] = exact_or_zero(state->w[k] * alpha, EXACT_WEIGHT_MIN);
        w[k] = s < place ? w[k] : s == place ? weight : 0.0f;
        m[k] = (float)g[k] * w[k];
    }
    const struct exact_scale m_scale = scale_of_products(
        warp_max(max(magnitude_bits(m[0]), magnitude_bits(m[1]))));
    const uint32_t q = pair_of(m[0], m[1], m_scale);
    const uint32_t own = __shfl_sync(WHOLE_WARP, q, place % WARP);
    const uint32_t before =
        (lane < place ? q & 0xff : 0) | (lane + WARP < place ? q & 0xff00 : 0);
    int32_t read[n], mixed[n];
#pragma unroll
    for (int i = 0; i < n; i++) {
        read[i] = dot_pair(state->s[i], c);
        mixed[i] = dot_pair(state->x[i], before);
    }
    const int32_t from_state = warp_sum_each<n>(read, lane % n);
    int8_t x_q = exact_quantise(x, x_scale.inverse);
    x_q = x_scale.scale == 0.0f ? 0 : x_q;
    const int32_t from_chunk = warp_sum_each<n>(mixed, lane % n) +
                               (int8_t)(uint8_t)(own >> place / WARP * 8) * x_q;
    float y = (float)from_chunk * (m_scale.scale * c_scale.scale);
    y = fmaf((float)from_state, state->s_scale * (c_scale.scale * e), y);
    y = fmaf(state->d, (float)x_q * x_scale.scale, y);
    warp_send<n>(block, y * gate, x_q, layer, epoch);
    warp_keep(block, layer, b, w, e);
}

/* From the sum of the lane's row to v of the warp's channels.  d: where D
 * begins. */
template <int n>
static __device__ __forceinline__ void
warp_finish(const struct decode_block *block, const struct warp_in *f,
            int32_t sum, float scale, weight_place d, int layer, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const struct mamba2_block *m = &block->mamba2;
    const float x = exact_dequantise(sum, scale, f->scale);
    const float conv = fmaf(f->tap, x, f->sum), dt = x + f->sum;
    const bool is_dt = m->row >= 2 * p->config.d_inner + 2 * N_STATES;
    float y = m->row < p->config.d_inner ? x : conv;
    /* One exponential for exact_silu(y) and exact_softplus(dt). */
    const float e = exact_exp(is_dt ? -fabsf(dt) : -y);
    if (m->dt_lanes != 0)
        send_warp_steps(block, dt, e, f->tap, epoch);
    y = y / (1.0f + e);
    send_warp_bc(block, y, epoch);
    send_warp_maximum(block, y, epoch);
    const float gate =
        __shfl_sync(WHOLE_WARP, y, block->lane % n + p->deal.warp_channels);
    const struct warp_state<n> state = warp_load<n>(block, d, layer);
    /* wait for the cluster: a head needs all of B, C, x */
    warp_recur<n>(block, &state, y, gate, layer, epoch);
    warp_keep_past(block, layer, x);
}

#endif

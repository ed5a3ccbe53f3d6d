/* batch.cu -- the kernel that steps many streams by a byte, and its launches.
 *
 * step_layer() below is a layer of a tile: what follows what, and why a place
 * that other blocks write to is free when they do.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch.cuh"

#include <math.h>
#include <sched.h>
#include <time.h>

#include "cuda/batch/batch_block.cuh"

/* ---- the kernel ---------------------------------------------------------- */

#ifdef HAS_CLUSTER

static_assert(NORM_GROUPS * sizeof(struct norm_words) <= NORM_BYTES,
              "the words of the norms have room");

/* u, y, dt ..: the names of cpu_engine.c.  A place in the memory of a block is
 * free when others write to it:
 *   q       for u: who sends it has all maxima of u, which blocks send when
 *           they have read x; for y: all maxima of y, sent after u was read;
 *           for x: all of dv, which warps send when they have read y
 *   maxima  of y: who sends them has dt, B and C, made of all of u, which
 *           blocks send when they have read those of u; of u: all of x, made
 *           of all of dv
 *   dtbc    who sends it has all of u, hence all have left the scan before
 *   dv      (and sums) who sends it has all of y, hence all have left x_proj;
 *           who sends x has read all of its dv
 * The first layer of a tile does not wait for dv: tiles end with a barrier. */
template <class T>
static __device__ __forceinline__ void step_layer(step_block<T> &k, int layer)
{
    const struct step_model &m = k.m;
    const bool is_last = layer + 1 == m.n_layer;
    const int maxima = m.size * k.n * (int)sizeof(uint32_t);
    in_stream<T> in;
    x_stream<T> x;
    out_stream<T> out;
    struct past_rows past;
    float s[STEP_STATES], a[STEP_STATES];

    copy_wait<0>();
    __syncthreads(); /* the parameters are there */
    load_past(past, k, layer, own_row(k));
    start_in(in, k, layer);
    if (!is_last)
        prefetch_weights(k, layer + 1);
    step_norm(k, layer == 0, m.share.norm, m.share.norm_bias);
    step_await(k, X_COMES, k.n * (m.d_model + (int)sizeof(float)));
    step_in(in, k);
    __syncthreads(); /* u and z are written */
    ring_fill(k);
    step_forget(k);
    step_convolve(past, k, layer);
    __syncthreads(); /* u and its maxima are complete */
    step_forget(k);
    tell_maxima(k, U_MAXIMA);
    clear_x(k);
    start_x(x, k, layer, 0);
    step_await(k, U_MAXIMA, maxima);
    step_quantise(k, U_COMES);
    step_await(k, U_COMES, k.n * m.d_inner);
    step_x(x, k, layer);
    load_states(s, k, layer, own_row(k));
#pragma unroll
    for (int i = 0; i < STEP_STATES; i++)
        a[i] = ((const float *)(k.share(layer) +
                                m.share.a))[i * T::channels + own_channel(k)];
    step_await(k, DTBC_COMES, k.n * m.dtbc_stride * (int)sizeof(float));
    quantise_dt(k);
    __syncthreads(); /* dt_q is written */
    step_forget(k);
    step_scan(k, layer, s, a);
    __syncthreads(); /* y and its maxima are complete */
    step_forget(k);
    tell_maxima(k, Y_MAXIMA);
    if (!is_last)
        prefetch_states(k, layer + 1);
    start_out(out, k, layer);
    step_await(k, Y_MAXIMA, maxima);
    step_quantise(k, Y_COMES);
    step_await(k, Y_COMES, k.n * m.d_inner);
    fetch_params(k, is_last ? k.head_share() : k.share(layer + 1),
                 is_last ? m.head.units : m.share.a);
    step_out(out, k, layer);
    step_await(k, DV_COMES, k.n_own() * m.d_model * (int)sizeof(float));
}

template <class T>
static __device__ __forceinline__ void step_predict(step_block<T> &k,
                                                    const struct step_job &job)
{
    copy_wait<0>();
    __syncthreads(); /* the parameters are there */
    step_norm(k, false, k.m.head.norm, k.m.head.norm_bias);
    step_await(k, X_COMES, k.n * (k.m.d_model + (int)sizeof(float)));
    step_head_product(k, job);
    __syncwarp();
    cluster_barrier(); /* the logits are there, q has been read */
    step_deliver(k, job);
}

template <class T>
static __device__ __forceinline__ void
enter_tile(step_block<T> &k, const struct step_job &job, int tile)
{
    k.row = tile * job.tile_rows;
    k.n = min(job.tile_rows, job.n_rows - k.row);
    k.own = own_rows(k.n, k.m.size);
    __syncthreads(); /* nobody reads the last tile's images and bytes */
    for (int i = k.thread; i < k.n; i += STEP_THREADS) {
        k.template place<float *>(k.m.at.image)[i] = job.images[k.row + i];
        k.template place<uint8_t>(k.m.at.byte)[i] = job.bytes[k.row + i];
        k.template place<uint32_t>(k.m.at.amax)[i] = 0;
    }
    fetch_params(k, k.share(0), k.m.share.a);
    __syncthreads(); /* images and bytes are written */
    prefetch_states(k, 0);
}
#endif

template <class T>
static __global__ void __launch_bounds__(STEP_THREADS, 1)
    step_streams(const __grid_constant__ struct step_model m,
                 const __grid_constant__ struct step_job job)
{
#ifdef HAS_CLUSTER
    const int n_tiles = ceil_div(job.n_rows, job.tile_rows);
    const int n_teams = gridDim.x / m.size;
    const int team = blockIdx.x / m.size;
    const int own_tiles = (n_tiles - team + n_teams - 1) / n_teams;
    step_block<T> k = {m,
                       (int)blockIdx.x % m.size,
                       (int)threadIdx.x,
                       (int)threadIdx.x / WARP,
                       (int)threadIdx.x % WARP,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,
                       own_tiles * m.n_layer * m.share.n_stages};
    if (threadIdx.x < EXCHANGES)
        mbarrier_init(k.template place<uint64_t>(m.at.come) + threadIdx.x);
    if (T::has_ring && threadIdx.x < m.at.ring_stages)
        mbarrier_init(k.template place<uint64_t>(m.at.full) + threadIdx.x);
    if (threadIdx.x == 0)
        *k.template place<int>(m.at.filled) = 0;
    cluster_barrier(); /* all blocks are here */
    ring_fill(k);
#pragma unroll 1
    for (int i = team; i < n_tiles; i += n_teams) {
        enter_tile(k, job, i);
#pragma unroll 1
        for (int layer = 0; layer < m.n_layer; layer++)
            step_layer(k, layer);
        step_predict(k, job);
    }
    __syncwarp();
    cluster_barrier(); /* nobody writes to a block that is gone */
#endif
}

/* ---- weights in the order of use ----------------------------------------- */

enum { PACK_THREADS = 256 };

enum packed { PACK_IN, PACK_X, PACK_OUT, PACK_HEAD };

/* Unit number i of a block: which tile of eight rows, and which part of its
 * depth; -1: none.  See step_share. */
static __device__ int2 unit_at(const struct step_model &m, enum packed what,
                               int rank, int i)
{
    const struct step_share &s = m.share;
    const int warp = i % STEP_WARPS, stage = i / STEP_WARPS;
    if (what == PACK_IN) {
        int turns = 2 * (m.d_inner / m.size) / 8 / STEP_WARPS, half = turns / 2;
        int j = stage % turns;
        return make_int2((rank * STEP_WARPS + warp) * half + j % half +
                             (j < half ? 0 : m.d_inner / 8),
                         stage / turns);
    }
    if (what == PACK_X)
        return make_int2(rank + stage / s.x_stages * m.size,
                         stage % s.x_stages * STEP_WARPS + warp);
    if (what == PACK_HEAD)
        return make_int2(head_tile(rank, m.size) + i / s.in_units,
                         i % s.in_units);
    int warps = out_is_shared(s.n_out_tiles) ? STEP_WARPS / 2 : STEP_WARPS;
    int tile = warp % warps;
    return make_int2(tile < s.n_out_tiles ? rank * s.n_out_tiles + tile : -1,
                     stage + warp / warps * s.out_units);
}

static __global__ void pack_units(uint32_t *to, struct cuda_matrix w,
                                  struct step_model m, enum packed what,
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

/* Words of dt_proj, the channels side by side. */
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

/* n units of the block of a rank. */
static void put_units(char *to, const struct cuda_matrix *w,
                      const struct step_model *m, enum packed what, int rank,
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

/* What the block of a rank has of a layer. */
static void put_share(char *to, const struct step_model *m,
                      const struct cuda_layer *l, int rank, int channels,
                      cudaStream_t stream)
{
    const struct step_share *at = &m->share;
    int d = m->d_model, e = m->d_inner, first = rank * channels;
    int out = d / m->size;
    put_floats(to + at->norm, l->norm, d, stream);
    put_floats(to + at->norm_bias, l->norm_bias, d, stream);
    put_rows(to + at->conv, l->conv + first, STEP_TAPS, channels, e, stream);
    put_floats(to + at->conv_bias, l->conv_bias + first, channels, stream);
    put_floats(to + at->dt_scale, l->dt_proj.scale + first, channels, stream);
    put_floats(to + at->dt_bias, l->dt_bias + first, channels, stream);
    put_floats(to + at->d, l->d + first, channels, stream);
    put_rows(to + at->in_scale, l->in_proj.scale + first, 2, channels, e,
             stream);
    put_floats(to + at->x_scale, l->x_proj.scale, m->dt_rank, stream);
    put_floats(to + at->x_scale + m->dt_room * 4, l->x_proj.scale + m->dt_rank,
               2 * STEP_STATES, stream);
    pack_dt<<<ceil_div(channels * m->dt_words, PACK_THREADS), PACK_THREADS, 0,
              stream>>>((uint32_t *)(to + at->dt_proj), l->dt_proj, first,
                        channels, m->dt_words);
    put_rows(to + at->a, l->a_log2e + first, STEP_STATES, channels, e, stream);
    put_floats(to + at->out_scale, l->out_proj.scale + rank * out, out, stream);

    int in = at->in_units * 2 * channels / 8;
    int x = at->n_x_tiles * at->x_stages * STEP_WARPS;
    to += at->stages;
    put_units(to, &l->in_proj, m, PACK_IN, rank, in, stream);
    to += (size_t)in * UNIT_BYTES;
    put_units(to, &l->x_proj, m, PACK_X, rank, x, stream);
    to += (size_t)x * UNIT_BYTES;
    put_units(to, &l->out_proj, m, PACK_OUT, rank, at->out_units * STEP_WARPS,
              stream);
}

static void put_head(char *to, const struct step_model *m,
                     const struct cuda_model *from, int rank,
                     cudaStream_t stream)
{
    const struct step_head *at = &m->head;
    int first = head_tile(rank, m->size);
    int tiles = head_tile(rank + 1, m->size) - first, d = m->d_model;
    put_floats(to + at->norm, from->norm_f, d, stream);
    put_floats(to + at->norm_bias, from->norm_f_bias, d, stream);
    put_floats(to + at->scale, from->lm_head.scale + first * 8, tiles * 8,
               stream);
    put_units(to + at->units, &from->lm_head, m, PACK_HEAD, rank,
              tiles * m->share.in_units, stream);
}

/* ---- the shape ----------------------------------------------------------- */

/* Gives out places, at multiples of 16 bytes. */
static int next_place(int *used, size_t bytes)
{
    int at = *used;
    *used += round_up((int)bytes, 16);
    return at;
}

static void place_share(struct step_model *m, int channels)
{
    struct step_share *s = &m->share;
    const size_t f = sizeof(float), bias = m->has_norm_bias ? m->d_model : 0;
    int used = 0;
    s->norm = next_place(&used, m->d_model * f);
    s->norm_bias = next_place(&used, bias * f);
    s->conv = next_place(&used, STEP_TAPS * channels * f);
    s->conv_bias = next_place(&used, channels * f);
    s->dt_scale = next_place(&used, channels * f);
    s->dt_bias = next_place(&used, channels * f);
    s->d = next_place(&used, channels * f);
    s->in_scale = next_place(&used, 2 * channels * f);
    s->x_scale = next_place(&used, m->x_tiles * 8 * f);
    s->dt_proj = next_place(&used, m->dt_words * channels * f);
    s->a = next_place(&used, STEP_STATES * channels * f);
    s->out_scale = next_place(&used, m->d_model / m->size * f);
    used = round_up(used, ARENA_ALIGN);

    int in_tiles = 2 * channels / 8 / STEP_WARPS,
        depth = m->d_inner / UNIT_DEPTH;
    s->in_units = m->d_model / UNIT_DEPTH;
    s->x_stages = ceil_div(depth, STEP_WARPS);
    s->n_x_tiles = own_rows(m->x_tiles, m->size);
    s->n_out_tiles = m->d_model / 8 / m->size;
    s->out_units = out_is_shared(s->n_out_tiles) ? depth / 2 : depth;
    s->n_stages =
        s->in_units * in_tiles + s->n_x_tiles * s->x_stages + s->out_units;
    s->stages = next_place(&used, (size_t)s->n_stages * STAGE_BYTES);
    s->bytes = round_up(used, ARENA_ALIGN);

    struct step_head *h = &m->head;
    used = 0;
    h->tiles = own_rows(N_BYTES_VOCAB / 8, m->size);
    h->norm = next_place(&used, m->d_model * f);
    h->norm_bias = next_place(&used, bias * f);
    h->scale = next_place(&used, h->tiles * 8 * f);
    h->units = next_place(&used, (size_t)h->tiles * 8 * m->d_model);
    h->bytes = round_up(used, ARENA_ALIGN);
}

/* Shared memory for tiles of so many rows; the rest of max_shared is the ring.
 */
template <class T>
static void place_memory(struct step_model *m, int rows, int max_shared)
{
    struct step_memory *at = &m->at;
    const size_t f = sizeof(float);
    size_t own = (size_t)own_rows(rows, m->size) * m->d_model * f;
    size_t x = (size_t)own_rows(m->x_tiles, m->size) * rows * 8 * f;
    int params = m->share.a > m->head.units ? m->share.a : m->head.units;
    int used = 0;
    m->rows = rows;
    at->q_pitch = m->d_inner + 16;
    if (at->q_pitch < m->d_model + 16)
        at->q_pitch = m->d_model + 16;
    at->h = next_place(&used, own);
    at->q = next_place(&used, (size_t)rows * at->q_pitch);
    at->uz = next_place(&used, rows * T::uz_pitch * f);
    at->dv = at->sums = next_place(&used, own > x ? own : x);
    at->dtbc = next_place(&used, rows * m->dtbc_stride * f);
    at->dt_q = next_place(&used, rows * m->dt_words * f);
    at->maxima = next_place(&used, m->size * rows * f);
    at->params = next_place(&used, params);
    at->amax = next_place(&used, rows * f);
    at->scale = next_place(&used, rows * f);
    at->inverse = next_place(&used, rows * f);
    at->dt_unit = next_place(&used, rows * f);
    at->image = next_place(&used, rows * sizeof(float *));
    at->byte = next_place(&used, rows);
    at->norm = next_place(&used, NORM_BYTES);
    at->come = next_place(&used, EXCHANGES * sizeof(uint64_t));
    at->filled = next_place(&used, sizeof(int));
    at->full = next_place(&used, RING_STAGES_MAX * sizeof(uint64_t));
    at->ring = used = round_up(used, 128);
    at->ring_stages = T::has_ring ? (max_shared - used) / STAGE_BYTES : 0;
    if (at->ring_stages > RING_STAGES_MAX)
        at->ring_stages = RING_STAGES_MAX;
    if (at->ring_stages > 0)
        used += at->ring_stages * STAGE_BYTES;
    /* The last product of a tile is fed rows past the tile. */
    int fed = at->q + round_up(rows, ROW_TILE) * at->q_pitch;
    at->bytes = used > fed ? used : fed;
}

/* Channels of a block; 0 when they cannot be dealt out evenly. */
static int choose_channels(const struct model_config *c)
{
    static const int choice[] = {step_128::channels, step_256::channels};
    if (c->d_state != STEP_STATES || c->d_conv != STEP_TAPS ||
        c->d_model % UNIT_DEPTH != 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        int size = c->d_inner / choice[i];
        if (c->d_inner % choice[i] == 0 && size <= TEAM_SIZE_MAX &&
            c->d_model % (8 * size) == 0 && c->d_model / 8 / size <= STEP_WARPS)
            return choice[i];
    }
    return 0;
}

static void describe_model(struct step_model *m, const struct cuda_model *from,
                           int channels)
{
    const struct model_config *c = &from->config;
    m->d_model = c->d_model;
    m->d_inner = c->d_inner;
    m->dt_rank = c->dt_rank;
    m->n_layer = c->n_layer;
    m->size = c->d_inner / channels;
    m->has_norm_bias = c->has_norm_bias;
    m->epsilon = c->norm_epsilon;
    m->image = from->image;
    m->embedding = from->embedding;
    m->dt_room = round_up(c->dt_rank, 4);
    m->dt_words = m->dt_room / 4;
    m->dtbc_stride = m->dt_room + 2 * STEP_STATES;
    m->x_tiles = ceil_div(m->dtbc_stride, 8);
    place_share(m, channels);
}

/* ---- a call -------------------------------------------------------------- */

enum {
    STEP_ROWS = 4096,    /* of a launch                                      */
    STEP_ROWS_LEAST = 8, /* of a tile, where there are as many              */
    LOGITS_FLOATS = STEP_ROWS * N_BYTES_VOCAB,
    ASK_EARLY_US = 100, /* a sleep ends up to 60 us late                    */
    ASK_US = 200
};

typedef void step_kernel(const struct step_model, const struct step_job);

/* A kernel, with what it asks of shared memory. */
struct step_variant {
    step_kernel *kernel;
    void (*place)(struct step_model *m, int rows, int max_shared);
    int rows; /* of a tile, at most                                        */
};

struct stepper {
    struct step_model model; /* without `at`: that depends on the rows     */
    struct step_variant few, many; /* for tiles of few rows, and of more   */
    int n_teams;    /* that run at the same time                           */
    int max_shared; /* bytes                                               */
    cudaStream_t stream;
    cudaEvent_t done;
    int timed_rows;     /* of a tile in the last step; 0: none  */
    double step_us;     /* what that took                       */
    void *weights;      /* owned                                */
    char *sent;         /* owned, pinned, read by the kernel: images, where
                           logits are wanted, then bytes        */
    float *host_bits;   /* owned, pinned                        */
    float *host_logits; /* the same; NULL until wanted          */
    float *logits;      /* owned                                */
    const struct segment *segments[STEP_ROWS]; /* of the rows              */
};

static void set_launch(cudaLaunchConfig_t *config,
                       cudaLaunchAttribute *attribute, const struct stepper *s,
                       int n_teams, int shared)
{
    *config = {};
    attribute->id = cudaLaunchAttributeClusterDimension;
    attribute->val.clusterDim.x = s->model.size;
    attribute->val.clusterDim.y = attribute->val.clusterDim.z = 1;
    config->gridDim = dim3(n_teams * s->model.size);
    config->blockDim = dim3(STEP_THREADS);
    config->dynamicSmemBytes = shared;
    config->stream = s->stream;
    config->attrs = attribute;
    config->numAttrs = 1;
}

/* Takes the next segments that have a byte; how many. */
static int take_rows(struct stepper *s, const struct segment **next,
                     const struct segment *end)
{
    int n = 0;
    for (; *next < end && n < STEP_ROWS; (*next)++) {
        if ((*next)->n > 0)
            s->segments[n++] = *next;
    }
    return n;
}

/* Where the kernel writes the logits of row i: where they are wanted, or into
 * memory of ours. */
static enum status place_logits(struct stepper *s, int i,
                                const struct host_floats *floats, float **place)
{
    float *wanted = s->segments[i]->logits;
    *place = wanted;
    if (!wanted || are_pinned(floats, wanted, N_BYTES_VOCAB))
        return OK;
    if (!s->host_logits)
        CUDA_TRY(cudaMallocHost(&s->host_logits,
                                LOGITS_FLOATS * sizeof *s->host_logits),
                 "memory for results");
    *place = s->host_logits + (size_t)i * N_BYTES_VOCAB;
    return OK;
}

/* Rows of a tile: so that teams have equal shares, in as few rounds as the
 * memory of a team allows. */
static int tile_rows(const struct stepper *s, int n)
{
    int rounds = ceil_div(n, s->n_teams * s->many.rows);
    int rows = ceil_div(n, s->n_teams * rounds);
    return rows < STEP_ROWS_LEAST ? STEP_ROWS_LEAST : rows;
}

static enum status launch_rows(struct stepper *s, int n,
                               const struct host_floats *floats)
{
    float **images = (float **)s->sent;
    uint8_t *bytes = (uint8_t *)(images + 2 * n);
    struct step_job job = {n,         tile_rows(s, n), images,      bytes,
                           s->logits, images + n,      s->host_bits};
    for (int i = 0; i < n; i++) {
        images[i] = s->segments[i]->state->image;
        bytes[i] = s->segments[i]->bytes[0];
        TRY(place_logits(s, i, floats, &images[n + i]));
    }
    int n_tiles = ceil_div(n, job.tile_rows);
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    const struct step_variant *v =
        job.tile_rows <= s->few.rows ? &s->few : &s->many;
    struct step_model m = s->model;
    v->place(&m, job.tile_rows, s->max_shared);
    set_launch(&config, &attribute, s,
               n_tiles < s->n_teams ? n_tiles : s->n_teams, m.at.bytes);
    CUDA_TRY(cudaLaunchKernelEx(&config, v->kernel, m, job),
             "stepping streams");
    return cuda_status(cudaEventRecord(s->done, s->stream), "stepping streams");
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void sleep_us(double us)
{
    if (us <= 0.0)
        return;
    struct timespec t = {(time_t)(us / 1e6), (long)(fmod(us, 1e6) * 1e3)};
    nanosleep(&t, NULL);
}

/* Waits for the step that was launched at `start`.  To be woken by the device
 * takes some 50 us, so where the last step had such tiles too, this sleeps
 * until shortly before the end, as that took, and then asks again and again;
 * but not for long, to leave the core to others. */
static enum status await_step(struct stepper *s, int tile_rows, double start)
{
    const double expected = s->timed_rows == tile_rows ? s->step_us : 0.0;
    const double early = start + expected - ASK_EARLY_US;
    cudaError_t error = cudaErrorNotReady;
    int asked = 0;
    if (expected > 0.0) {
        sleep_us(early - now_us());
        while ((error = cudaEventQuery(s->done)) == cudaErrorNotReady &&
               now_us() < early + ASK_US) {
            asked++;
            sched_yield();
        }
    }
    cudaGetLastError(); /* "not ready" is kept as if it were a failure */
    if (error == cudaErrorNotReady)
        error = cudaEventSynchronize(s->done);
    /* What had ended before the first question may have been much shorter. */
    bool is_late = error == cudaSuccess && expected > 0.0 && asked == 0;
    s->timed_rows = tile_rows;
    s->step_us = is_late ? 0.75 * expected : now_us() - start;
    return cuda_status(error, "stepping streams");
}

/* The kernel has written them to the memory of the host. */
static void take_results(struct stepper *s, int n)
{
    for (int i = 0; i < n; i++) {
        const struct segment *segment = s->segments[i];
        if (segment->bits)
            segment->bits[0] = s->host_bits[i];
        const float *made = ((float **)s->sent)[n + i];
        if (made != segment->logits)
            memcpy(segment->logits, made, N_BYTES_VOCAB * sizeof *made);
    }
}

enum status stepper_feed(struct stepper *s, const struct segment *segments,
                         size_t n, const struct host_floats *floats)
{
    const struct segment *next = segments;
    for (;;) {
        int rows = take_rows(s, &next, segments + n);
        if (rows == 0)
            return OK;
        double start = now_us();
        TRY(launch_rows(s, rows, floats));
        TRY(await_step(s, tile_rows(s, rows), start));
        take_results(s, rows);
    }
}

/* ---- opening ------------------------------------------------------------- */

/* rows stays 0 when not even a small tile fits, with a ring of use. */
template <class T>
static enum status prepare(struct step_variant *v, const struct stepper *s)
{
    const char *what = "preparing the kernel that steps streams";
    struct step_model m = s->model;
    v->kernel = step_streams<T>;
    v->place = place_memory<T>;
    for (v->rows = T::rows_max; v->rows >= STEP_ROWS_LEAST; v->rows--) {
        v->place(&m, v->rows, s->max_shared);
        if (m.at.bytes <= s->max_shared &&
            (!T::has_ring || m.at.ring_stages >= RING_STAGES_LEAST))
            break;
    }
    if (v->rows < STEP_ROWS_LEAST)
        v->rows = 0;
    CUDA_TRY(cudaFuncSetAttribute((const void *)v->kernel,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  s->max_shared),
             what);
    return cuda_status(
        cudaFuncSetAttribute((const void *)v->kernel,
                             cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
        what);
}

/* How many teams run at the same time; 0 where the shape does not fit. */
template <class Few, class Many>
static enum status count_teams(struct stepper *s)
{
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    TRY(prepare<Few>(&s->few, s));
    TRY(prepare<Many>(&s->many, s));
    if (s->many.rows == 0)
        return OK;
    set_launch(&config, &attribute, s, 1, s->max_shared);
    if (cudaOccupancyMaxActiveClusters(
            &s->n_teams, (const void *)s->many.kernel, &config) != cudaSuccess)
        s->n_teams = 0;
    cudaGetLastError(); /* it is no failure: there are the waves */
    return OK;
}

static enum status choose_grid(struct stepper *s, int channels)
{
    int device, major;
    CUDA_TRY(cudaGetDevice(&device), "asking for the device");
    CUDA_TRY(cudaDeviceGetAttribute(&s->max_shared,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                    device),
             "asking for the device's properties");
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor,
                                    device),
             "asking for the device's properties");
    if (major < 9) /* no clusters */
        return OK;
    return channels == step_128::channels
               ? count_teams<step_128_few, step_128>(s)
               : count_teams<step_256_few, step_256>(s);
}

static enum status place_weights(struct stepper *s,
                                 const struct cuda_model *from, int channels)
{
    struct step_model *m = &s->model;
    size_t shares = (size_t)m->n_layer * m->size * m->share.bytes;
    size_t size = shares + (size_t)m->size * m->head.bytes;
    CUDA_TRY(cudaMalloc(&s->weights, size), "memory for the weights");
    CUDA_TRY(cudaMemsetAsync(s->weights, 0, size, s->stream),
             "placing the weights");
    char *to = (char *)s->weights;
    m->shares = to;
    for (int i = 0; i < m->n_layer; i++) {
        for (int rank = 0; rank < m->size; rank++, to += m->share.bytes)
            put_share(to, m, &from->layers[i], rank, channels, s->stream);
    }
    m->heads = to;
    for (int rank = 0; rank < m->size; rank++, to += m->head.bytes)
        put_head(to, m, from, rank, s->stream);
    CUDA_TRY(cudaGetLastError(), "placing the weights");
    return cuda_status(cudaStreamSynchronize(s->stream), "placing the weights");
}

static enum status allocate(struct stepper *s)
{
    size_t sent = STEP_ROWS * (2 * sizeof(float *) + 1);
    CUDA_TRY(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming |
                                                    cudaEventBlockingSync),
             "an event");
    CUDA_TRY(cudaMallocHost(&s->sent, sent), "memory for bytes");
    CUDA_TRY(cudaMallocHost(&s->host_bits, STEP_ROWS * sizeof(float)),
             "memory for results");
    return cuda_status(
        cudaMalloc(&s->logits, LOGITS_FLOATS * sizeof *s->logits),
        "memory for results");
}

static enum status set_up(struct stepper *s, const struct cuda_model *model)
{
    int channels = choose_channels(&model->config);
    if (channels == 0)
        return OK;
    describe_model(&s->model, model, channels);
    TRY(choose_grid(s, channels));
    if (s->n_teams == 0)
        return OK;
    CUDA_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking),
             "a stream");
    TRY(place_weights(s, model, channels));
    return allocate(s);
}

enum status stepper_open(struct stepper **stepper,
                         const struct cuda_model *model)
{
    *stepper = NULL;
    struct stepper *s = (struct stepper *)calloc(1, sizeof *s);
    if (!s)
        return fail_memory("the GPU engine");
    enum status status = set_up(s, model);
    if (status == OK && s->n_teams > 0)
        *stepper = s;
    else
        stepper_close(s);
    return status == E_MEMORY ? OK : status; /* the waves need less */
}

void stepper_close(struct stepper *s)
{
    if (!s)
        return;
    if (s->done)
        cudaEventDestroy(s->done);
    if (s->stream)
        cudaStreamDestroy(s->stream);
    cudaFreeHost(s->sent);
    cudaFreeHost(s->host_bits);
    cudaFreeHost(s->host_logits);
    cudaFree(s->logits);
    cudaFree(s->weights);
    free(s);
}

/* decode_plan.cu -- deals a model out to the blocks of the decode kernel.
 *
 * The packing runs on the device, from the engine's plain matrices; what
 * pads a share to the size of the largest is zero, and adds nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_plan.cuh"

enum {
    PACK_THREADS = 256,
    STATE_SHARE = 8, /* of shared memory, one part */
    STAGES_MIN = 4
};

/* ---- sizes -------------------------------------------------------------- */

static struct piece piece_make(int rows, int cols, int n_floats)
{
    struct piece p;
    memset(&p, 0, sizeof p);
    p.rows = rows;
    p.stride = round_up(cols, COPY_ALIGN);
    p.float_bytes = round_up(n_floats * (int)sizeof(float), COPY_ALIGN);
    p.bytes = p.float_bytes + rows * p.stride;
    p.batch = rows;
    return p;
}

/* Rows in batches of at most half of what may be waited for, so that the rest
 * fills meanwhile.  With a batch, what comes before the rows is there, and what
 * comes after them is waited for; false when that does not fit. */
static bool piece_fit(struct piece *p, int before, int after, int usable)
{
    int left = usable - before - after;
    int batch = (left < usable / 2 ? left : usable / 2) / p->stride;
    if (batch < 1)
        return false;
    p->batch = batch < p->rows ? batch : p->rows;
    return true;
}

static int take(int *offset, size_t bytes)
{
    int at = *offset;
    *offset += round_up((int)bytes, ROW_ALIGN);
    return at;
}

/* Everything but the ring. */
static void lay_out_memory(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    struct decode_memory *m = &p->memory;
    const int widest = c->d_inner > c->d_model ? c->d_inner : c->d_model;
    const int n_x = p->x_states + 2 * c->d_state;
    int n_sums = p->in.rows;
    n_sums = p->x.rows > n_sums ? p->x.rows : n_sums;
    n_sums = p->out.rows > n_sums ? p->out.rows : n_sums;
    n_sums = p->head.rows > n_sums ? p->head.rows : n_sums;

    int offset = 0;
    m->h = take(&offset, c->d_model * sizeof(float));
    m->x = take(&offset, c->d_model * sizeof(float));
    m->v = take(&offset, c->d_inner * sizeof(float));
    m->u = take(&offset, p->n_channels * sizeof(float));
    m->gate = take(&offset, p->n_channels * sizeof(float));
    m->logits = take(&offset, N_BYTES_VOCAB * sizeof(float));
    m->q = take(&offset, round_up(widest, COPY_ALIGN));
    m->dt = take(&offset, (size_t)N_WARPS * p->scan.stride);
    m->sums = take(&offset, n_sums * sizeof(int32_t));
    m->state = take(&offset,
                    (size_t)p->state_layers * p->state_floats * sizeof(float));
    m->x_words = take(&offset, n_x * sizeof(uint64_t));
    m->complete = take(&offset, 2 * sizeof(uint64_t));
    m->full = offset;
    m->bytes = offset;
}

/* Gives the ring what is left of the shared memory. */
static bool lay_out_ring(struct decode_plan *p, int shared_bytes)
{
    struct decode_memory *m = &p->memory;
    int left = shared_bytes - m->full - ARENA_ALIGN;
    m->n_stages = left / (STAGE_BYTES + (int)sizeof(uint64_t));
    if (m->n_stages < STAGES_MIN)
        return false;
    m->ring =
        round_up(m->full + m->n_stages * (int)sizeof(uint64_t), ARENA_ALIGN);
    m->bytes = m->ring + m->n_stages * STAGE_BYTES;

    /* A stage is fetched when all of it is free, and one may be begun at
     * either end of what is waited for. */
    int usable = (m->n_stages - 2) * STAGE_BYTES;
    int in = p->in.float_bytes + p->norm_bytes;
    int head = p->head.float_bytes + p->norm_bytes;
    int next = in > head ? in : head;
    return piece_fit(&p->in, in, p->scan.bytes + p->x.float_bytes, usable) &&
           piece_fit(&p->out, p->out.float_bytes, next, usable) &&
           piece_fit(&p->head, head, 0, usable) &&
           p->scan.bytes + p->x.bytes + p->out.bytes + next <= usable;
}

static bool lay_out(struct decode_plan *p, const struct decode_limits *limits)
{
    lay_out_memory(p);
    if (limits->has_ring)
        return lay_out_ring(p, limits->shared_bytes);
    return p->memory.bytes <= limits->shared_bytes;
}

bool decode_plan_make(struct decode_plan *p, const struct cuda_model *model,
                      const struct decode_limits *limits)
{
    const struct model_config c = model->config;
    const int n_x = c.dt_rank + 2 * c.d_state;
    memset(p, 0, sizeof *p);
    p->config = c;
    p->image = model->image;
    p->embedding = model->embedding;

    /* Every block needs a channel: the order of the exchanges rests on it. */
    int unit = limits->cluster > 0 ? limits->cluster : 1;
    int wanted = c.d_inner < limits->n_blocks ? c.d_inner : limits->n_blocks;
    p->n_blocks = wanted / unit * unit;
    if (p->n_blocks == 0 || c.d_model / 4 < unit || c.d_inner / 4 < unit)
        return false;
    p->cluster = limits->cluster;
    p->n_parts = p->cluster > 0 ? p->cluster : p->n_blocks;

    p->n_channels = ceil_div(c.d_inner, p->n_blocks);
    p->n_rows = ceil_div(c.d_model, p->n_blocks);
    p->n_x_rows = ceil_div(n_x, p->n_parts);
    p->n_logits = ceil_div(N_BYTES_VOCAB, p->n_blocks);
    const int n = p->n_channels;
    p->in = piece_make(2 * n, c.d_model, (2 + c.d_conv + 1) * n);
    p->x = piece_make(p->n_x_rows, c.d_inner, p->n_x_rows);
    p->scan = piece_make(n, c.dt_rank, (3 + c.d_state) * n);
    p->out = piece_make(p->n_rows, c.d_inner, p->n_rows);
    p->head = piece_make(p->n_logits, c.d_model, p->n_logits);
    p->norm_bytes = c.d_model * (int)sizeof(float) * (c.has_norm_bias ? 2 : 1);
    p->layer_bytes = (size_t)p->in.bytes + p->scan.bytes + p->out.bytes;
    p->block_bytes = c.n_layer * p->layer_bytes + p->head.bytes;

    p->x_states = round_up(c.dt_rank, 2);
    while (EXACT_GROUP << p->state_bits < c.d_state)
        p->state_bits++;
    p->scan_threads = round_up(n * (c.d_state / EXACT_GROUP), WARP);
    p->state_floats = (c.d_conv - 1) * n + EXACT_GROUP * p->scan_threads;
    while (1 << p->cluster_bits < p->cluster)
        p->cluster_bits++;

    /* Two threads a channel, one a row. */
    if (n > N_THREADS / 2 || p->n_rows > N_THREADS || p->n_logits > N_THREADS)
        return false;

    /* The state of all layers stays in shared memory where it is small: the
     * ring needs the rest more. */
    size_t state_bytes = c.n_layer * p->state_floats * sizeof(float);
    if (state_bytes <= (size_t)limits->shared_bytes / STATE_SHARE) {
        p->state_layers = c.n_layer;
        if (lay_out(p, limits))
            return true;
    }
    p->state_layers = 1;
    return lay_out(p, limits);
}

/* ---- packing ------------------------------------------------------------ */

/* Rows [first, end) of a matrix, then zeros up to the rows of the piece. */
static __device__ void pack_rows(uint8_t *to, const struct cuda_matrix *from,
                                 int first, int end, int n_rows, int stride)
{
    const int words = stride / COPY_ALIGN;
    for (int i = threadIdx.x; i < n_rows * words; i += blockDim.x) {
        const int row = first + i / words, word = i % words;
        uint4 x = {0, 0, 0, 0};
        if (row < end)
            x = ((const uint4 *)(from->q + (size_t)row * from->stride))[word];
        ((uint4 *)to)[i] = x;
    }
}

/* Elements [first, end), then zeros up to n; returns where the next go. */
static __device__ float *pack_floats(float *to, const float *from, int first,
                                     int end, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        to[i] = first + i < end ? from[first + i] : 0.0f;
    return to + n;
}

/* Block (b, l): what block b of the decode kernel needs of layer l. */
static __global__ void pack_own_kernel(struct decode_plan p, uint8_t *own,
                                       const struct cuda_layer *layers)
{
    const struct cuda_layer *l = &layers[blockIdx.y];
    const int block = blockIdx.x, d_inner = p.config.d_inner;
    const int c0 = share_begin(block, d_inner, p.n_blocks);
    const int c1 = share_begin(block + 1, d_inner, p.n_blocks);
    const int r0 = share_begin(block, p.config.d_model, p.n_blocks);
    const int r1 = share_begin(block + 1, p.config.d_model, p.n_blocks);
    const int n = p.n_channels;
    uint8_t *in = own + block * p.block_bytes + blockIdx.y * p.layer_bytes;
    uint8_t *scan = in + p.in.bytes;
    uint8_t *out = scan + p.scan.bytes;

    float *f = (float *)in;
    f = pack_floats(f, l->in_proj.scale, c0, c1, n);
    f = pack_floats(f, l->in_proj.scale + d_inner, c0, c1, n);
    for (int k = 0; k < p.config.d_conv; k++)
        f = pack_floats(f, l->conv + (size_t)k * d_inner, c0, c1, n);
    pack_floats(f, l->conv_bias, c0, c1, n);
    uint8_t *rows = in + p.in.float_bytes;
    pack_rows(rows, &l->in_proj, c0, c1, n, p.in.stride);
    pack_rows(rows + n * p.in.stride, &l->in_proj, d_inner + c0, d_inner + c1,
              n, p.in.stride);

    f = (float *)scan;
    f = pack_floats(f, l->dt_proj.scale, c0, c1, n);
    f = pack_floats(f, l->dt_bias, c0, c1, n);
    f = pack_floats(f, l->d, c0, c1, n);
    for (int s = 0; s < p.config.d_state; s++)
        f = pack_floats(f, l->a_log2e + (size_t)s * d_inner, c0, c1, n);
    pack_rows(scan + p.scan.float_bytes, &l->dt_proj, c0, c1, n, p.scan.stride);

    pack_floats((float *)out, l->out_proj.scale, r0, r1, p.n_rows);
    pack_rows(out + p.out.float_bytes, &l->out_proj, r0, r1, p.n_rows,
              p.out.stride);
}

/* Block b: its rows of lm_head, after its layers. */
static __global__ void pack_head_kernel(struct decode_plan p, uint8_t *own,
                                        struct cuda_matrix lm_head)
{
    const int v0 = share_begin(blockIdx.x, N_BYTES_VOCAB, p.n_blocks);
    const int v1 = share_begin(blockIdx.x + 1, N_BYTES_VOCAB, p.n_blocks);
    uint8_t *head =
        own + blockIdx.x * p.block_bytes + p.config.n_layer * p.layer_bytes;
    pack_floats((float *)head, lm_head.scale, v0, v1, p.n_logits);
    pack_rows(head + p.head.float_bytes, &lm_head, v0, v1, p.n_logits,
              p.head.stride);
}

/* Block (i, l): part i of x_proj of layer l. */
static __global__ void pack_parts_kernel(struct decode_plan p, uint8_t *parts,
                                         const struct cuda_layer *layers)
{
    const struct cuda_layer *l = &layers[blockIdx.y];
    const int n = p.config.dt_rank + 2 * p.config.d_state;
    const int x0 = share_begin(blockIdx.x, n, p.n_parts);
    const int x1 = share_begin(blockIdx.x + 1, n, p.n_parts);
    uint8_t *x =
        parts + ((size_t)blockIdx.x * gridDim.y + blockIdx.y) * p.x.bytes;
    pack_floats((float *)x, l->x_proj.scale, x0, x1, p.n_x_rows);
    pack_rows(x + p.x.float_bytes, &l->x_proj, x0, x1, p.n_x_rows, p.x.stride);
}

/* Block l: the norm of layer l; the last one, the final norm. */
static __global__ void pack_norms_kernel(struct decode_plan p, uint8_t *norms,
                                         const struct cuda_layer *layers,
                                         const float *norm_f,
                                         const float *norm_f_bias)
{
    const int l = blockIdx.x, n = p.config.d_model;
    const bool is_last = l == p.config.n_layer;
    float *to = (float *)(norms + (size_t)l * p.norm_bytes);
    to = pack_floats(to, is_last ? norm_f : layers[l].norm, 0, n, n);
    if (p.config.has_norm_bias)
        pack_floats(to, is_last ? norm_f_bias : layers[l].norm_bias, 0, n, n);
}

/* Lays out what memory holds; returns the bytes, memory may be NULL. */
static size_t lay_out_arrays(struct decode_plan *p, uint8_t *memory)
{
    const struct model_config *c = &p->config;
    size_t offset = 0;
    const struct {
        void *pointer;
        size_t bytes;
    } arrays[] = {
        {&p->own, p->n_blocks * p->block_bytes},
        {&p->parts, (size_t)p->n_parts * c->n_layer * p->x.bytes},
        {&p->norms, (size_t)(c->n_layer + 1) * p->norm_bytes},
        {&p->u_words, c->d_inner * sizeof(uint64_t)},
        {&p->y_words, c->d_inner * sizeof(uint64_t)},
        {&p->h_words, c->d_model * sizeof(uint64_t)},
        {&p->x_words, (p->x_states + 2 * c->d_state) * sizeof(uint64_t)},
        {&p->logit_words, N_BYTES_VOCAB * sizeof(uint64_t)},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        uint8_t *at = memory == NULL ? NULL : memory + offset;
        memcpy(arrays[i].pointer, &at, sizeof at);
        offset +=
            (arrays[i].bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    }
    return offset;
}

size_t decode_plan_bytes(const struct decode_plan *plan)
{
    struct decode_plan copy = *plan;
    return lay_out_arrays(&copy, NULL);
}

enum status decode_plan_pack(struct decode_plan *p,
                             const struct cuda_model *model, void *memory,
                             cudaStream_t stream)
{
    const char *what = "packing the weights";
    const size_t n_bytes = lay_out_arrays(p, (uint8_t *)memory);
    const unsigned n_layer = (unsigned)p->config.n_layer;
    uint8_t *own = (uint8_t *)p->own;
    uint8_t *parts = (uint8_t *)p->parts;
    uint8_t *norms = (uint8_t *)p->norms;

    /* Words of epoch 0, which no exchange has. */
    CUDA_TRY(cudaMemsetAsync(memory, 0, n_bytes, stream), what);
    pack_own_kernel<<<dim3(p->n_blocks, n_layer), PACK_THREADS, 0, stream>>>(
        *p, own, model->device_layers);
    pack_head_kernel<<<p->n_blocks, PACK_THREADS, 0, stream>>>(*p, own,
                                                               model->lm_head);
    pack_parts_kernel<<<dim3(p->n_parts, n_layer), PACK_THREADS, 0, stream>>>(
        *p, parts, model->device_layers);
    pack_norms_kernel<<<n_layer + 1, PACK_THREADS, 0, stream>>>(
        *p, norms, model->device_layers, model->norm_f, model->norm_f_bias);
    CUDA_TRY(cudaGetLastError(), what);
    return OK;
}

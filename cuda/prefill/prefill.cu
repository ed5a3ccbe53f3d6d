/* prefill.cu -- schedules the batched path: waves of rows through layers.
 *
 * In step k layer l works on wave k - l (kernels.cuh).  The layers are cut
 * into groups, each with a stream of its own, so that the products of one
 * group run beside the scan of another; but for few streams, whose scans do
 * better all at once.  Group g needs in step k what group g - 1 made in step
 * k - 1: one event a group says so.
 *
 * The host builds a wave, sends it, and stays RESULTS waves ahead of the
 * results it has taken; memory does not depend on the length of the input.
 *
 * A call that was started leaves its last waves on their way: those of the
 * next follow them, with the next numbers, and push them out.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/prefill.cuh"

#include "cuda/common/kernels.cuh"
#include "cuda/prefill/source.cuh"

enum {
    GROUPS = 2,         /* of layers, each with a stream, at most           */
    FEW_STREAMS = 8,    /* fewer are read with a single group               */
    RESULTS = 4,        /* waves whose results may wait for the host      */
    ROW_LAYERS = 65536, /* rows under way in all layers together         */
    MEMORY_SHARE = 16,  /* of the device's memory, more than which only a few
                         * rows take                                      */
    STEPS_MAX = 1 << 30 /* after which numbers begin again                */
};

struct group {
    cudaStream_t stream;
    cudaEvent_t done; /* its last step                                     */
    int first, end;   /* layers                                            */
};

/* The results of a wave on the way to the host. */
struct result {
    cudaEvent_t done;
    float *bits;   /* pinned [rows]                                       */
    float *logits; /* pinned [rows][256]                                  */
    struct part parts[ROWS_MAX];
    int n_parts;
};

/* All launches of a single wave, recorded; for waves of the same form. */
struct recording {
    int rows, pieces, spans;
    bool has_pooled;
    bool is_wanted;         /* the form has come once: record the next     */
    bool is_refused;        /* by the driver: never again                  */
    cudaGraphExec_t launch; /* NULL: not recorded                          */
};

/* A call that is under way, and memory for its pooled features. */
struct call {
    const struct segment *segments;
    size_t n;
    int end; /* number of the wave after its last                        */
    bool has_pooled;
    bool are_together;  /* the caller's, in pinned memory            */
    float *pooled;      /* owned [n_pooled]: of each segment                */
    float *host_pooled; /* owned, pinned [n_host_pooled]: the same          */
    size_t n_pooled, n_host_pooled;
};

struct prefill {
    struct batch batch;
    bool overlaps;
    void *memory;       /* owned, device: the arrays of batch       */
    void *pinned;       /* owned, host: bits and logits             */
    struct wave *waves; /* owned, pinned [n_slots]                  */
    struct group groups[GROUPS];
    int n_groups; /* of the calls under way                         */
    cudaStream_t head;
    cudaStream_t copies; /* of waves, beside the work                */
    cudaEvent_t copied;
    struct recording recording;
    struct result results[RESULTS];
    struct source source;           /* of the newest call                  */
    struct part (*parts)[ROWS_MAX]; /* owned [n_slots]                     */

    /* What is under way: waves since there was nothing, and how far they are.
     * Wave number v enters in step v. */
    int n_waves;
    int n_steps; /* that were launched                             */
    int n_taken; /* waves whose results the host has               */
    struct call calls[2];
    int n_calls; /* under way: two while the second is started     */
    int newest;  /* of the calls                                   */
};

/* ---- waves --------------------------------------------------------------- */

static size_t pooled_each(const struct prefill *p)
{
    return (size_t)p->batch.n_pooled * p->batch.d_inner;
}

/* Where the pooled features of a segment of the newest call are on the device;
 * NULL when it wants none. */
static float *pooled_of(const struct prefill *p, const struct segment *segment)
{
    const struct call *c = &p->calls[p->newest];
    size_t i = (size_t)(segment - c->segments);
    return segment->pooled ? c->pooled + i * pooled_each(p) : NULL;
}

/* Makes wave number k from the source; false when the source is empty. */
static bool build_wave(struct prefill *p, int k)
{
    struct source *s = &p->source;
    if (s->n_active == 0)
        return false;
    int slot = k % p->batch.n_slots;
    struct wave *w = &p->waves[slot];
    w->n_rows = 0;
    w->n_spans = 0;
    w->n_pieces = share_rows(s);
    for (int i = 0; i < w->n_pieces; i++) {
        struct part *a = &s->active[i];
        a->row = w->n_rows;
        p->parts[slot][i] = *a;
        w->pieces[i].image = a->segment->state->image;
        w->pieces[i].pooled = pooled_of(p, a->segment);
        w->pieces[i].row = a->row;
        w->pieces[i].n = a->n;
        memcpy(w->bytes + a->row, a->segment->bytes + a->offset, a->n);
        add_spans(w, i);
        w->n_rows += a->n;
    }
    source_advance(s, w->n_pieces);
    return true;
}

/* Waves go ahead of the work, on a stream of their own; `stream` waits. */
static enum status send_wave(struct prefill *p, int k, cudaStream_t stream)
{
    int slot = k % p->batch.n_slots;
    const struct wave *w = &p->waves[slot];
    size_t size =
        offsetof(struct wave, spans) + w->n_spans * sizeof w->spans[0];
    CUDA_TRY(cudaMemcpyAsync((void *)(p->batch.waves + slot), w, size,
                             cudaMemcpyHostToDevice, p->copies),
             "sending bytes");
    CUDA_TRY(cudaEventRecord(p->copied, p->copies), "sending bytes");
    CUDA_TRY(cudaStreamWaitEvent(stream, p->copied, 0), "sending bytes");
    return OK;
}

/* ---- results ------------------------------------------------------------ */

/* Waits for the results of wave number v, and hands them out. */
static enum status take_result(struct prefill *p, int v)
{
    struct result *r = &p->results[v % RESULTS];
    CUDA_TRY(cudaEventSynchronize(r->done), "reading bytes");
    for (int j = 0; j < r->n_parts; j++) {
        const struct part *a = &r->parts[j];
        const struct segment *s = a->segment;
        if (s->bits)
            memcpy(s->bits + a->offset, r->bits + a->row,
                   a->n * sizeof *s->bits);
        if (s->logits)
            memcpy(s->logits + a->offset * N_BYTES_VOCAB,
                   r->logits + (size_t)a->row * N_BYTES_VOCAB,
                   a->n * N_BYTES_VOCAB * sizeof *s->logits);
    }
    return OK;
}

/* Takes the results of all waves before number end, which were sent. */
static enum status take_results(struct prefill *p, int end)
{
    for (; p->n_taken < end; p->n_taken++)
        TRY(take_result(p, p->n_taken));
    return OK;
}

/* Starts the results of wave number v on their way, after stream. */
static enum status send_result(struct prefill *p, cudaStream_t stream, int v)
{
    struct result *r = &p->results[v % RESULTS];
    int slot = v % p->batch.n_slots;
    const struct wave *w = &p->waves[slot];
    bool wants_bits = false, wants_logits = false;
    TRY(take_results(p, v - RESULTS + 1));
    r->n_parts = w->n_pieces;
    for (int i = 0; i < w->n_pieces; i++) {
        r->parts[i] = p->parts[slot][i];
        wants_bits |= r->parts[i].segment->bits != NULL;
        wants_logits |= r->parts[i].segment->logits != NULL;
    }
    if (wants_bits)
        CUDA_TRY(cudaMemcpyAsync(r->bits, p->batch.bits,
                                 w->n_rows * sizeof *r->bits,
                                 cudaMemcpyDeviceToHost, stream),
                 "fetching costs");
    if (wants_logits)
        CUDA_TRY(cudaMemcpyAsync(r->logits, p->batch.logits,
                                 (size_t)w->n_rows * N_BYTES_VOCAB *
                                     sizeof *r->logits,
                                 cudaMemcpyDeviceToHost, stream),
                 "fetching logits");
    CUDA_TRY(cudaEventRecord(r->done, stream), "reading bytes");
    return OK;
}

/* ---- steps -------------------------------------------------------------- */

/* The layers of group g that have a wave in step k. */
static struct step step_of(const struct prefill *p, const struct group *g,
                           int k)
{
    struct step s = {k, g->first, 0, 0, 0, 0};
    int end = k + 1 < g->end ? k + 1 : g->end;
    if (s.first < k - p->n_waves + 1)
        s.first = k - p->n_waves + 1;
    s.count = end > s.first ? end - s.first : 0;
    for (int l = s.first; l < end; l++) {
        const struct wave *w = &p->waves[(k - l) % p->batch.n_slots];
        s.rows = w->n_rows > s.rows ? w->n_rows : s.rows;
        s.pieces = w->n_pieces > s.pieces ? w->n_pieces : s.pieces;
        s.spans = w->n_spans > s.spans ? w->n_spans : s.spans;
    }
    return s;
}

static enum status run_layers(struct queue q, const struct batch *b,
                              struct step s)
{
    TRY(launch_norm(q, b, s));
    TRY(launch_product(q, b, s, PRODUCT_IN));
    TRY(launch_conv(q, b, s));
    TRY(launch_product(q, b, s, PRODUCT_X));
    TRY(launch_scan(q, b, s));
    if (b->has_pooled)
        TRY(launch_pooled(q, b, s));
    TRY(launch_quantise(q, b, s));
    return launch_product(q, b, s, PRODUCT_OUT);
}

/* The head counts as a layer past the last, which follows in the same step. */
static enum status run_head(struct queue q, const struct batch *b,
                            struct step s)
{
    s.first = b->n_layer;
    s.count = 1;
    TRY(launch_norm(q, b, s));
    TRY(launch_product(q, b, s, PRODUCT_HEAD));
    return launch_deliver(q, b, s);
}

static enum status wait_for(cudaStream_t stream, const struct group *group)
{
    CUDA_TRY(cudaStreamWaitEvent(stream, group->done, 0), "reading bytes");
    return OK;
}

/* Group g in step k, and the head after the last layer. */
static enum status run_group(struct prefill *p, int g, int k)
{
    struct group *group = &p->groups[g];
    struct step s = step_of(p, group, k);
    struct queue q = {group->stream, p->overlaps && p->n_groups == 1};
    if (s.count == 0)
        return OK;
    if (g > 0)
        TRY(wait_for(q.stream, &p->groups[g - 1]));
    TRY(run_layers(q, &p->batch, s));
    CUDA_TRY(cudaEventRecord(group->done, q.stream), "reading bytes");
    if (s.first + s.count < p->batch.n_layer)
        return OK;

    q.stream = p->head;
    TRY(wait_for(q.stream, group));
    TRY(run_head(q, &p->batch, s));
    return send_result(p, q.stream, k - (p->batch.n_layer - 1));
}

/* Nothing is under way. */
static void share_layers(struct prefill *p, int n_groups)
{
    int layers = p->batch.n_layer;
    p->n_groups = n_groups;
    for (int i = 0; i < n_groups; i++) {
        p->groups[i].first = ceil_div(layers * i, n_groups);
        p->groups[i].end = ceil_div(layers * (i + 1), n_groups);
    }
}

/* Groups run from the last to the first: each waits for what the one before
 * it did in the step before. */
static enum status run_step(struct prefill *p)
{
    for (int g = p->n_groups - 1; g >= 0; g--)
        TRY(run_group(p, g, p->n_steps));
    p->n_steps++;
    return OK;
}

/* All waves of the source enter. */
static enum status run_waves(struct prefill *p)
{
    while (build_wave(p, p->n_waves)) {
        TRY(send_wave(p, p->n_waves, p->groups[0].stream));
        p->n_waves++;
        TRY(run_step(p));
    }
    return OK;
}

/* Steps after which the results of all waves before number end were sent. */
static int steps_for(const struct prefill *p, int end)
{
    return end + p->batch.n_layer - 1;
}

/* ---- a single wave ------------------------------------------------------
 *
 * It has nothing to run beside: one stream takes it, and the next kernel is
 * on its way while one ends.  Many streams that are stepped together make
 * the same launches again and again, which a recording gives cheaply.
 */
static enum status run_all_layers(struct prefill *p, cudaStream_t stream)
{
    struct queue q = {stream, p->overlaps};
    const struct wave *w = &p->waves[0];
    struct step s = {0, 0, 1, w->n_rows, w->n_pieces, w->n_spans};
    for (; s.first < p->batch.n_layer; s.first++, s.number++)
        TRY(run_layers(q, &p->batch, s));
    s.number--;
    return run_head(q, &p->batch, s);
}

static void forget(struct recording *r)
{
    if (r->launch)
        cudaGraphExecDestroy(r->launch);
    r->launch = NULL;
    r->is_wanted = false;
}

/* Leaves r->launch NULL where the driver cannot. */
static void record(struct prefill *p, cudaStream_t stream)
{
    struct recording *r = &p->recording;
    cudaGraph_t graph = NULL;
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) !=
        cudaSuccess)
        return;
    enum status status = run_all_layers(p, stream);
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || status != OK ||
        cudaGraphInstantiate(&r->launch, graph, 0) != cudaSuccess)
        r->launch = NULL;
    if (graph)
        cudaGraphDestroy(graph);
    cudaGetLastError(); /* it is no failure: the launches can be made */
}

/* Whether there is a recording of the form of w; it is made when the form
 * comes a second time. */
static bool is_recorded(struct prefill *p, const struct wave *w,
                        cudaStream_t stream)
{
    struct recording *r = &p->recording;
    if (r->rows != w->n_rows || r->pieces != w->n_pieces ||
        r->spans != w->n_spans || r->has_pooled != p->batch.has_pooled)
        forget(r);
    r->has_pooled = p->batch.has_pooled;
    r->rows = w->n_rows;
    r->pieces = w->n_pieces;
    r->spans = w->n_spans;
    if (r->is_wanted && !r->launch && !r->is_refused) {
        record(p, stream);
        r->is_refused = r->launch == NULL;
    }
    r->is_wanted = true;
    return r->launch != NULL;
}

static enum status run_single(struct prefill *p)
{
    cudaStream_t stream = p->groups[0].stream;
    build_wave(p, 0);
    TRY(send_wave(p, 0, stream));
    if (is_recorded(p, &p->waves[0], stream))
        CUDA_TRY(cudaGraphLaunch(p->recording.launch, stream), "reading bytes");
    else
        TRY(run_all_layers(p, stream));
    TRY(send_result(p, stream, 0));
    return take_result(p, 0);
}

/* ---- pooled features ------------------------------------------------ */

static bool wants_pooled(const struct segment *segments, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (segments[i].pooled)
            return true;
    }
    return false;
}

static enum status need_pooled(struct call *c, size_t n)
{
    if (n <= c->n_pooled)
        return OK;
    cudaFree(c->pooled);
    c->pooled = NULL;
    c->n_pooled = 0;
    CUDA_TRY(cudaMalloc(&c->pooled, n * sizeof *c->pooled),
             "memory for pooled features");
    c->n_pooled = n;
    return OK;
}

static enum status need_host_pooled(struct call *c, size_t n)
{
    if (n <= c->n_host_pooled)
        return OK;
    cudaFreeHost(c->host_pooled);
    c->host_pooled = NULL;
    c->n_host_pooled = 0;
    CUDA_TRY(cudaMallocHost(&c->host_pooled, n * sizeof *c->host_pooled),
             "memory for pooled features");
    c->n_host_pooled = n;
    return OK;
}

/* Whether the pooled features of all segments lie behind each other in pinned
 * memory. */
static bool are_together(const struct segment *segments, size_t n, size_t each,
                         const struct host_floats *floats)
{
    if (!segments[0].pooled)
        return false;
    for (size_t i = 1; i < n; i++) {
        if (segments[i].pooled != segments[0].pooled + i * each)
            return false;
    }
    return are_pinned(floats, segments[0].pooled, n * each);
}

/* The pooled features of a call go to the device before its first wave .. */
static enum status send_pooled(struct call *c, size_t each)
{
    size_t n = c->n * each;
    const float *from = c->segments[0].pooled;
    TRY(need_pooled(c, n));
    if (!c->are_together) {
        TRY(need_host_pooled(c, n));
        from = c->host_pooled;
        for (size_t i = 0; i < c->n; i++) {
            if (c->segments[i].pooled)
                memcpy(c->host_pooled + i * each, c->segments[i].pooled,
                       each * sizeof *from);
        }
    }
    CUDA_TRY(
        cudaMemcpy(c->pooled, from, n * sizeof *from, cudaMemcpyHostToDevice),
        "sending pooled features");
    return OK;
}

/* .. and come back when the host has the results of its last. */
static enum status fetch_pooled(struct call *c, size_t each)
{
    float *to = c->are_together ? c->segments[0].pooled : c->host_pooled;
    CUDA_TRY(cudaMemcpy(to, c->pooled, c->n * each * sizeof *to,
                        cudaMemcpyDeviceToHost),
             "fetching pooled features");
    for (size_t i = 0; i < c->n && !c->are_together; i++) {
        if (c->segments[i].pooled)
            memcpy(c->segments[i].pooled, to + i * each, each * sizeof *to);
    }
    return OK;
}

/* ---- calls --------------------------------------------------------------- */

/* Adds one, behind that which may be under way: its waves are to come. */
static enum status open_call(struct prefill *p, const struct segment *segments,
                             size_t n, const struct host_floats *floats)
{
    const struct call *before = &p->calls[p->newest];
    bool had_pooled = p->n_calls > 0 && before->has_pooled;
    p->newest = 1 - p->newest;
    p->n_calls++;
    struct call *c = &p->calls[p->newest];
    c->segments = segments;
    c->n = n;
    c->has_pooled = wants_pooled(segments, n);
    p->batch.has_pooled = c->has_pooled || had_pooled;
    if (!c->has_pooled)
        return OK;
    c->are_together = are_together(segments, n, pooled_each(p), floats);
    return send_pooled(c, pooled_each(p));
}

static struct call *oldest(struct prefill *p)
{
    return &p->calls[p->n_calls == 2 ? 1 - p->newest : p->newest];
}

/* The oldest call ends; the results of its waves were sent. */
static enum status close_call(struct prefill *p)
{
    struct call *c = oldest(p);
    TRY(take_results(p, c->end));
    if (c->has_pooled)
        TRY(fetch_pooled(c, pooled_each(p)));
    p->n_calls--;
    return OK;
}

static void begin_numbers(struct prefill *p)
{
    p->n_waves = p->n_steps = p->n_taken = 0;
}

/* No wave follows: all that are under way come out. */
static enum status drain(struct prefill *p)
{
    while (p->n_waves > 0 && p->n_steps < steps_for(p, p->n_waves))
        TRY(run_step(p));
    while (p->n_calls > 0)
        TRY(close_call(p));
    begin_numbers(p);
    return OK;
}

/* All of a call that is alone, and is a single wave. */
static enum status run_alone(struct prefill *p)
{
    TRY(run_single(p));
    p->calls[p->newest].end = 0; /* its results were taken */
    return close_call(p);
}

/* The call before, if there is one, is over then. */
static enum status run_behind(struct prefill *p)
{
    TRY(run_waves(p));
    p->calls[p->newest].end = p->n_waves;
    if (p->n_calls < 2)
        return OK;
    if (p->n_steps < steps_for(p, oldest(p)->end))
        return drain(p);
    return close_call(p);
}

static enum status start(struct prefill *p, const struct segment *segments,
                         size_t n, const struct host_floats *floats)
{
    struct source *s = &p->source;
    source_open(s, segments, n);
    if (s->left == 0)
        return drain(p);
    int n_groups = s->n_active < FEW_STREAMS ? 1 : GROUPS;
    if (n_groups != p->n_groups || p->n_steps > STEPS_MAX)
        TRY(drain(p));
    bool is_alone = p->n_calls == 0;
    s->rows = is_alone ? lone_rows(s, &p->batch) : following_rows(s, &p->batch);
    TRY(open_call(p, segments, n, floats));
    if (is_alone && s->left <= (size_t)s->rows)
        return run_alone(p);
    if (is_alone)
        share_layers(p, n_groups);
    return run_behind(p);
}

/* Nothing may write to the callers' memory any more. */
void prefill_abandon(struct prefill *p)
{
    p->n_calls = 0;
    begin_numbers(p);
    cudaDeviceSynchronize();
}

enum status prefill_start(struct prefill *p, const struct segment *segments,
                          size_t n, const struct host_floats *floats)
{
    enum status status = start(p, segments, n, floats);
    if (status != OK)
        prefill_abandon(p);
    return status;
}

enum status prefill_finish(struct prefill *p)
{
    enum status status = drain(p);
    if (status != OK)
        prefill_abandon(p);
    return status;
}

/* ---- opening ------------------------------------------------------------ */

/* Gives out parts of one allocation; with base NULL it only counts. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *c, size_t size)
{
    void *p = c->base ? c->base + c->used : NULL;
    c->used += (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return p;
}

static void carve_batch(struct carver *c, struct batch *b)
{
    size_t rows = b->rows, all = (b->n_layer + 1) * rows;
    b->waves = (struct wave *)carve(c, b->n_slots * sizeof *b->waves);
    b->h = (float *)carve(c, b->n_slots * rows * b->d_model * sizeof(float));
    b->x = (int8_t *)carve(c, all * b->x_stride);
    b->x_scale = (float *)carve(c, all * sizeof(float));
    b->uz = (float *)carve(c, all * 2 * b->d_inner * sizeof(float));
    b->u = (float *)carve(c, all * b->d_inner * sizeof(float));
    b->u_q = (int8_t *)carve(c, all * b->u_stride);
    b->u_scale = (float *)carve(c, all * sizeof(float));
    b->dtbc = (float *)carve(c, all * b->dtbc_stride * sizeof(float));
    b->dt_amax = (uint32_t *)carve(c, all * sizeof(uint32_t));
    b->y_amax = (uint32_t *)carve(c, all * sizeof(uint32_t));
    b->logits = (float *)carve(c, rows * N_BYTES_VOCAB * sizeof(float));
    b->bits = (float *)carve(c, rows * sizeof(float));
}

static void describe_batch(struct batch *b, const struct cuda_model *m)
{
    const struct model_config *c = &m->config;
    b->d_model = c->d_model;
    b->d_inner = c->d_inner;
    b->d_state = c->d_state;
    b->d_conv = c->d_conv;
    b->dt_rank = c->dt_rank;
    b->n_layer = c->n_layer;
    b->has_norm_bias = c->has_norm_bias;
    b->epsilon = c->norm_epsilon;
    b->image = m->image;
    b->embedding = m->embedding;
    b->layers = m->device_layers;
    b->n_slots = c->n_layer + RESULTS;
    b->x_stride = round_up(c->d_model, ROW_ALIGN);
    b->u_stride = round_up(c->d_inner, ROW_ALIGN);
    b->dt_room = round_up(c->dt_rank, 4);
    b->dtbc_stride = b->dt_room + 2 * c->d_state;
    b->rows = round_up(ROW_LAYERS / c->n_layer, ROWS_UNIT);
    b->rows = b->rows < ROWS_MAX ? b->rows : ROWS_MAX;
    b->n_pooled = pooled_layers(c);
    for (int l = 0; l < c->n_layer; l++) {
        if (pooled_find(c, l) >= 0)
            b->pooled_layers[pooled_find(c, l)] = l;
    }
}

static void halve_rows(struct batch *b)
{
    b->rows = round_up(b->rows / 2, ROWS_UNIT);
}

/* Many rows gain a tenth or two: not worth much of a small device. */
static enum status limit_rows(struct batch *b)
{
    size_t free_bytes, all_bytes;
    CUDA_TRY(cudaMemGetInfo(&free_bytes, &all_bytes), "asking for memory");
    for (; b->rows > ENOUGH_ROWS; halve_rows(b)) {
        struct carver c = {NULL, 0};
        carve_batch(&c, b);
        if (c.used <= all_bytes / MEMORY_SHARE)
            break;
    }
    return OK;
}

/* Fewer rows are slower, but a small device can still run. */
static enum status allocate_batch(struct prefill *p)
{
    struct batch *b = &p->batch;
    TRY(limit_rows(b));
    for (;;) {
        struct carver c = {NULL, 0};
        carve_batch(&c, b);
        cudaError_t error = cudaMalloc(&p->memory, c.used);
        if (error == cudaErrorMemoryAllocation && b->rows > ROWS_UNIT) {
            cudaGetLastError();
            halve_rows(b);
            continue;
        }
        CUDA_TRY(error, "memory for activations");
        CUDA_TRY(cudaMemset(p->memory, 0, c.used), "clearing activations");
        c.base = (char *)p->memory;
        c.used = 0;
        carve_batch(&c, b);
        return OK;
    }
}

static enum status allocate_host(struct prefill *p)
{
    const struct batch *b = &p->batch;
    size_t bits = b->rows * sizeof(float);
    size_t logits = (size_t)b->rows * N_BYTES_VOCAB * sizeof(float);
    CUDA_TRY(cudaMallocHost(&p->pinned, RESULTS * (bits + logits)),
             "memory for results");
    CUDA_TRY(cudaMallocHost(&p->waves, b->n_slots * sizeof *p->waves),
             "memory for waves");
    char *next = (char *)p->pinned;
    for (int i = 0; i < RESULTS; i++) {
        p->results[i].logits = (float *)next;
        p->results[i].bits = (float *)(next + logits);
        next += logits + bits;
    }
    p->parts = (struct part(*)[ROWS_MAX])malloc(b->n_slots * sizeof *p->parts);
    return p->parts ? OK : fail_memory("waves");
}

static enum status create_groups(struct prefill *p)
{
    for (int i = 0; i < GROUPS; i++) {
        struct group *g = &p->groups[i];
        CUDA_TRY(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking),
                 "a stream");
        CUDA_TRY(cudaEventCreateWithFlags(&g->done, cudaEventDisableTiming),
                 "an event");
    }
    CUDA_TRY(cudaStreamCreateWithFlags(&p->head, cudaStreamNonBlocking),
             "a stream");
    CUDA_TRY(cudaStreamCreateWithFlags(&p->copies, cudaStreamNonBlocking),
             "a stream");
    CUDA_TRY(cudaEventCreateWithFlags(&p->copied, cudaEventDisableTiming),
             "an event");
    for (int i = 0; i < RESULTS; i++)
        CUDA_TRY(cudaEventCreateWithFlags(&p->results[i].done,
                                          cudaEventDisableTiming |
                                              cudaEventBlockingSync),
                 "an event");
    return OK;
}

static enum status ask_device(struct batch *b)
{
    int device;
    CUDA_TRY(cudaGetDevice(&device), "asking for the device");
    CUDA_TRY(cudaDeviceGetAttribute(&b->max_shared,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                    device),
             "asking for the device's properties");
    CUDA_TRY(cudaDeviceGetAttribute(&b->n_processors,
                                    cudaDevAttrMultiProcessorCount, device),
             "asking for the device's properties");
    return OK;
}

static enum status set_up(struct prefill *p, const struct cuda_model *model)
{
    describe_batch(&p->batch, model);
    TRY(ask_device(&p->batch));
    TRY(products_prepare(&p->batch));
    TRY(scan_prepare(&p->batch));
    TRY(create_groups(p));
    TRY(allocate_batch(p));
    TRY(allocate_host(p));
    CUDA_TRY(cudaDeviceSynchronize(), "preparing the device");
    return OK;
}

enum status prefill_open(struct prefill **prefill,
                         const struct cuda_model *model, bool overlaps)
{
    *prefill = NULL;
    struct prefill *p = (struct prefill *)calloc(1, sizeof *p);
    if (!p)
        return fail_memory("the GPU engine");
    p->overlaps = overlaps;
    enum status status = set_up(p, model);
    if (status != OK)
        prefill_close(p);
    else
        *prefill = p;
    return status;
}

void prefill_close(struct prefill *p)
{
    if (!p)
        return;
    if (p->n_calls > 0)
        prefill_abandon(p);
    forget(&p->recording);
    for (int i = 0; i < GROUPS; i++) {
        if (p->groups[i].done)
            cudaEventDestroy(p->groups[i].done);
        if (p->groups[i].stream)
            cudaStreamDestroy(p->groups[i].stream);
    }
    if (p->head)
        cudaStreamDestroy(p->head);
    if (p->copies)
        cudaStreamDestroy(p->copies);
    if (p->copied)
        cudaEventDestroy(p->copied);
    for (int i = 0; i < RESULTS; i++) {
        if (p->results[i].done)
            cudaEventDestroy(p->results[i].done);
    }
    cudaFree(p->memory);
    for (int i = 0; i < 2; i++) {
        cudaFree(p->calls[i].pooled);
        cudaFreeHost(p->calls[i].host_pooled);
    }
    cudaFreeHost(p->pinned);
    cudaFreeHost(p->waves);
    free(p->parts);
    free(p);
}

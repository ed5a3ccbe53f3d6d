/* prefill.cu -- schedules prefill: microbatches of rows through layers.
 *
 * At tick k layer l works on microbatch k - l (prefill_batch.cuh).  The layers
 * are cut into groups, each with a CUDA stream, so that the products of one
 * group run beside the scan of another.  Few streams, whose scans leave
 * multiprocessors idle, and Mamba-2 do better with all layers in one group.
 * Group g needs at tick k what group g - 1 made at tick k - 1: an event for
 * each group says when that is done.
 *
 * The host builds a microbatch, sends it, and stays RESULTS microbatches ahead
 * of the results it has taken; memory does not depend on the length of the
 * input.  cuda/README says who waits for whom, and why a buffer may be used
 * again.
 *
 * A call that was started leaves its last microbatches under way.  Those of
 * the next call follow them, with the next numbers, and push them out.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/prefill_parts.cuh"
extern "C" {
#include "base/signals.h"
}

enum {
    FEW_STREAMS = 8,    /* fewer are read with a single group            */
    TICKS_MAX = 1 << 30 /* after which numbers start at 0 again          */
};

/* ---- microbatches -------------------------------------------------------- */

static void add_strips(struct microbatch *m, int span)
{
    const struct span *s = &m->spans[span];
    for (int t = 0; t < s->n; t += STRIP) {
        struct strip strip = {span, s->row + t, s->n - t};
        strip.n = strip.n < STRIP ? strip.n : STRIP;
        m->strips[m->n_strips++] = strip;
    }
}

/* Makes microbatch number m from the backlog; false when that is empty. */
static bool build_microbatch(struct prefill *p, int number)
{
    struct backlog *backlog = &p->backlog;
    if (backlog->n_active == 0)
        return false;
    int slot = prefill_slot(p, number);
    struct microbatch *m = &p->slots[slot];
    m->n_rows = m->n_strips = m->n_chunks = 0;
    m->n_spans = backlog_share(backlog);
    for (int i = 0; i < m->n_spans; i++) {
        struct segment_share *share = &backlog->active[i];
        share->row = m->n_rows;
        share->pinned = results_memory(p->floats, share);
        p->shares[slot][i] = *share;
        m->spans[i].image = share->segment->state->image;
        m->spans[i].pooled = call_pooled(&p->calls[p->newest], share->segment);
        m->spans[i].row = share->row;
        m->spans[i].n = share->n;
        m->spans[i].chunk = m->n_chunks;
        m->n_chunks += chunks_of(share->n);
        memcpy(m->bytes + share->row, share->segment->bytes + share->offset,
               share->n);
        add_strips(m, i);
        m->n_rows += share->n;
    }
    backlog_advance(backlog, m->n_spans);
    return true;
}

/* Microbatches go ahead of the work, on a stream of their own; `stream`
 * waits. */
static enum status send_microbatch(struct prefill *p, int number,
                                   cudaStream_t stream)
{
    int slot = prefill_slot(p, number);
    const struct microbatch *m = &p->slots[slot];
    size_t size =
        offsetof(struct microbatch, strips) + m->n_strips * sizeof m->strips[0];
    CUDA_TRY(cudaMemcpyAsync((void *)(p->batch.slots + slot), m, size,
                             cudaMemcpyHostToDevice, p->copies),
             "sending bytes");
    CUDA_TRY(cudaEventRecord(p->copied, p->copies), "sending bytes");
    CUDA_TRY(cudaStreamWaitEvent(stream, p->copied, 0), "sending bytes");
    return OK;
}

/* ---- ticks --------------------------------------------------------------- */

/* The layers of a group that have a microbatch at tick k. */
static struct tick tick_of(const struct prefill *p,
                           const struct layer_group *group, int k)
{
    struct tick tick = {};
    tick.number = k;
    tick.first = group->first;
    int end = k + 1 < group->end ? k + 1 : group->end;
    if (tick.first < k - p->n_microbatches + 1)
        tick.first = k - p->n_microbatches + 1;
    tick.count = end > tick.first ? end - tick.first : 0;
    for (int l = tick.first; l < end; l++) {
        const struct microbatch *m = &p->slots[prefill_slot(p, k - l)];
        tick.rows = m->n_rows > tick.rows ? m->n_rows : tick.rows;
        tick.spans = m->n_spans > tick.spans ? m->n_spans : tick.spans;
        tick.strips = m->n_strips > tick.strips ? m->n_strips : tick.strips;
        tick.chunks = m->n_chunks > tick.chunks ? m->n_chunks : tick.chunks;
    }
    return tick;
}

/* From the norm of h to the input of out_proj. */
static enum status run_mamba1(struct queue q, const struct prefill_batch *b,
                              struct tick tick)
{
    TRY(launch_product(q, b, tick, PRODUCT_IN));
    TRY(launch_conv(q, b, tick));
    TRY(launch_product(q, b, tick, PRODUCT_X));
    TRY(launch_scan(q, b, tick));
    if (b->has_pooled)
        TRY(launch_pooled(q, b, tick));
    return launch_quantise(q, b, tick);
}

static enum status run_mamba2(struct queue q, const struct prefill_batch *b,
                              const struct mamba2_batch *m, struct tick tick)
{
    TRY(launch_mamba2_inputs(q, b, m, tick));
    TRY(launch_mamba2_states(q, b, m, tick));
    TRY(launch_mamba2_outputs(q, b, m, tick));
    if (b->has_pooled)
        TRY(launch_pooled(q, b, tick));
    return launch_mamba2_norm(q, b, m, tick);
}

static enum status run_layers(struct queue q, const struct prefill *p,
                              struct tick tick)
{
    const struct prefill_batch *b = &p->batch;
    TRY(launch_norm(q, b, tick));
    TRY(p->is_mamba2 ? run_mamba2(q, b, &p->mamba2, tick)
                     : run_mamba1(q, b, tick));
    return launch_product(q, b, tick, PRODUCT_OUT);
}

/* lm_head counts as one more layer, and follows the last one at the same
 * tick. */
static enum status run_head(struct queue q, const struct prefill *p,
                            struct tick tick)
{
    struct prefill_batch b = p->batch;
    b.overflow = p->overflow;
    tick.first = b.n_layer;
    tick.count = 1;
    TRY(launch_norm(q, &b, tick));
    TRY(launch_product(q, &b, tick, PRODUCT_HEAD));
    return launch_deliver(q, &b, tick);
}

static enum status wait_for(cudaStream_t stream,
                            const struct layer_group *group)
{
    CUDA_TRY(cudaStreamWaitEvent(stream, group->done, 0), "reading bytes");
    return OK;
}

/* Group g at tick k, and lm_head after the last layer. */
static enum status run_group(struct prefill *p, int g, int k)
{
    struct layer_group *group = &p->groups[g];
    struct tick tick = tick_of(p, group, k);
    struct queue q = {group->stream, p->overlaps && p->n_groups == 1};
    if (tick.count == 0)
        return OK;
    if (g > 0)
        TRY(wait_for(q.stream, &p->groups[g - 1]));
    TRY(run_layers(q, p, tick));
    CUDA_TRY(cudaEventRecord(group->done, q.stream), "reading bytes");
    if (tick.first + tick.count < p->batch.n_layer)
        return OK;

    q.stream = p->head;
    TRY(wait_for(q.stream, group));
    TRY(run_head(q, p, tick));
    return results_send(p, q.stream, k - (p->batch.n_layer - 1));
}

/* Cuts the layers into groups; nothing is under way. */
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
 * it did at the tick before. */
static enum status run_tick(struct prefill *p)
{
    for (int g = p->n_groups - 1; g >= 0; g--)
        TRY(run_group(p, g, p->n_ticks));
    p->n_ticks++;
    return OK;
}

/* All microbatches of the backlog enter; or, when a signal comes, those before
 * it. */
static enum status run_microbatches(struct prefill *p)
{
    while (build_microbatch(p, p->n_microbatches)) {
        TRY(signals_check());
        TRY(send_microbatch(p, p->n_microbatches, p->groups[0].stream));
        p->n_microbatches++;
        TRY(run_tick(p));
    }
    return OK;
}

/* Ticks after which the results of all microbatches before number end were
 * sent. */
static int ticks_for(const struct prefill *p, int end)
{
    return end + p->batch.n_layer - 1;
}

/* ---- a single microbatch -------------------------------------------------
 *
 * It has nothing to run beside: one CUDA stream takes it, where each kernel
 * starts while the one before it ends.
 */
static enum status run_all_layers(struct prefill *p, cudaStream_t stream)
{
    struct queue q = {stream, p->overlaps};
    const struct microbatch *m = &p->slots[0];
    struct tick tick = {0,          0,           1,          m->n_rows,
                        m->n_spans, m->n_strips, m->n_chunks};
    for (; tick.first < p->batch.n_layer; tick.first++, tick.number++)
        TRY(run_layers(q, p, tick));
    tick.number--;
    return run_head(q, p, tick);
}

static void record(struct prefill *p, cudaStream_t stream)
{
    if (!recording_start(&p->recording, stream))
        return;
    enum status status = run_all_layers(p, stream);
    recording_end(&p->recording, stream, status == OK);
}

static enum status run_single(struct prefill *p)
{
    cudaStream_t stream = p->groups[0].stream;
    build_microbatch(p, 0);
    TRY(send_microbatch(p, 0, stream));
    const struct microbatch *m = &p->slots[0];
    struct launch_form form = {m->n_rows, m->n_spans, m->n_strips, m->n_chunks,
                               p->batch.has_pooled};
    if (recording_meets(&p->recording, &form))
        record(p, stream);
    if (p->recording.launch)
        CUDA_TRY(cudaGraphLaunch(p->recording.launch, stream), "reading bytes");
    else
        TRY(run_all_layers(p, stream));
    return results_send(p, stream, 0);
}

/* ---- calls --------------------------------------------------------------- */

static size_t pooled_each(const struct prefill *p)
{
    return (size_t)p->batch.n_pooled * p->batch.d_inner;
}

/* Adds a call, after the one that may be under way: its microbatches are to
 * come. */
static enum status add_call(struct prefill *p, const struct segment *segments,
                            size_t n, const struct host_floats *floats)
{
    bool had_pooled = p->n_calls > 0 && p->calls[p->newest].has_pooled;
    p->newest = 1 - p->newest;
    p->n_calls++;
    struct call *call = &p->calls[p->newest];
    TRY(call_open(call, segments, n, pooled_each(p), floats));
    p->batch.has_pooled = call->has_pooled || had_pooled;
    return OK;
}

static struct call *oldest(struct prefill *p)
{
    return &p->calls[p->n_calls == 2 ? 1 - p->newest : p->newest];
}

/* The oldest call ends; the results of its microbatches were sent. */
static enum status end_call(struct prefill *p)
{
    struct call *call = oldest(p);
    TRY(results_take(p, call->end));
    TRY(call_finish(call));
    p->n_calls--;
    return OK;
}

static void restart_numbers(struct prefill *p)
{
    p->n_microbatches = p->n_ticks = p->n_taken = 0;
}

/* No microbatch follows: all that are under way come out. */
static enum status drain(struct prefill *p)
{
    while (p->n_microbatches > 0 &&
           p->n_ticks < ticks_for(p, p->n_microbatches))
        TRY(run_tick(p));
    while (p->n_calls > 0)
        TRY(end_call(p));
    restart_numbers(p);
    return OK;
}

/* All of a call that is alone, and is a single microbatch. */
static enum status run_alone(struct prefill *p)
{
    TRY(run_single(p));
    p->calls[p->newest].end = 1;
    TRY(end_call(p));
    restart_numbers(p);
    return OK;
}

/* Enters all microbatches of the newest call; the call before it, if there is
 * one, ends. */
static enum status run_behind(struct prefill *p)
{
    TRY(run_microbatches(p));
    p->calls[p->newest].end = p->n_microbatches;
    if (p->n_calls < 2)
        return OK;
    if (p->n_ticks < ticks_for(p, oldest(p)->end))
        return drain(p);
    return end_call(p);
}

static enum status start(struct prefill *p, const struct segment *segments,
                         size_t n, const struct host_floats *floats)
{
    struct backlog *backlog = &p->backlog;
    p->floats = floats;
    backlog_open(backlog, segments, n);
    if (backlog->left == 0)
        return drain(p);
    bool is_one = p->is_mamba2 || backlog->n_active < FEW_STREAMS;
    int n_groups = is_one ? 1 : GROUPS;
    if (n_groups != p->n_groups || p->n_ticks > TICKS_MAX)
        TRY(drain(p));
    bool is_alone = p->n_calls == 0;
    backlog->least = p->least;
    backlog->starts = p->mamba2.starts;
    backlog->rows = is_alone ? backlog_lone_rows(backlog, &p->batch)
                             : backlog_following_rows(backlog, &p->batch);
    TRY(add_call(p, segments, n, floats));
    if (is_alone && backlog_fits(backlog))
        return run_alone(p);
    if (is_alone)
        share_layers(p, n_groups);
    return run_behind(p);
}

/* Nothing may write to the callers' memory any more. */
void prefill_abandon(struct prefill *p)
{
    p->n_calls = 0;
    restart_numbers(p);
    cudaDeviceSynchronize();
    *p->overflow = 0;
}

enum status prefill_reserve(struct prefill *p, const struct segment *segments,
                            size_t n)
{
    return call_reserve(&p->calls[1 - p->newest], segments, n, pooled_each(p));
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

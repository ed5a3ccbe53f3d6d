/* results.cu -- the results of microbatches, on their way to the callers.
 *
 * Logits are a kilobyte a row.  Where the callers' memory is pinned, and places
 * in it are equally far apart, the device copies them there itself.  Otherwise
 * they come to memory of ours, and the host hands them out.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/prefill_parts.cuh"

/* Copies of a microbatch's logits: instead of more, the host is as fast. */
enum { RUNS_MAX = 8 };

#define PITCH_MAX ((ptrdiff_t)1 << 28) /* floats: devices have a limit */

/* Where the logits of a share go, or NULL. */
static float *logits_of(const struct segment_share *share)
{
    float *logits = share->segment->logits;
    return logits ? logits + share->offset * N_BYTES_VOCAB : NULL;
}

static size_t logits_floats(const struct segment_share *share)
{
    return (size_t)share->n * N_BYTES_VOCAB;
}

const struct host_floats *results_memory(const struct host_floats *floats,
                                         const struct segment_share *share)
{
    return find_pinned(floats, logits_of(share), logits_floats(share));
}

/* ---- from the device ---------------------------------------------------- */

/* Shares whose logits a single copy takes to their places: as many bytes of
 * each, and places equally far apart. */
struct copy_run {
    int n;
    size_t pitch; /* in floats */
};

static struct copy_run find_run(const struct segment_share *shares, int n)
{
    const float *to = logits_of(shares);
    struct copy_run run = {1, logits_floats(shares)};
    for (; run.n < n; run.n++) {
        const struct segment_share *next = &shares[run.n];
        if (next->n != shares->n || next->pinned != shares->pinned)
            break;
        ptrdiff_t distance = logits_of(next) - to;
        if (run.n == 1 && distance > (ptrdiff_t)run.pitch &&
            distance < PITCH_MAX)
            run.pitch = (size_t)distance;
        if (distance != (ptrdiff_t)(run.n * run.pitch))
            break;
    }
    return run;
}

/* Whether the logits of all shares can go to their places in a few copies. */
static bool is_direct(const struct segment_share *shares, int n)
{
    int n_runs = 0;
    for (int i = 0; i < n; i++) {
        if (!shares[i].pinned)
            return false;
    }
    for (int i = 0; i < n; i += find_run(shares + i, n - i).n)
        n_runs++;
    return n_runs <= RUNS_MAX;
}

static enum status send_directly(const struct delivery *d, const float *logits,
                                 cudaStream_t stream)
{
    for (int i = 0; i < d->n_shares;) {
        const struct segment_share *first = &d->shares[i];
        struct copy_run run = find_run(first, d->n_shares - i);
        size_t width = logits_floats(first) * sizeof(float);
        CUDA_TRY(cudaMemcpy2DAsync(logits_of(first), run.pitch * sizeof(float),
                                   logits + (size_t)first->row * N_BYTES_VOCAB,
                                   width, width, (size_t)run.n,
                                   cudaMemcpyDeviceToHost, stream),
                 "fetching logits");
        i += run.n;
    }
    return OK;
}

static enum status send_logits(struct delivery *d, const float *logits,
                               int n_rows, cudaStream_t stream)
{
    size_t n_bytes = (size_t)n_rows * N_BYTES_VOCAB * sizeof *logits;
    d->is_direct = is_direct(d->shares, d->n_shares);
    if (d->is_direct)
        return send_directly(d, logits, stream);
    return cuda_status(cudaMemcpyAsync(d->logits, logits, n_bytes,
                                       cudaMemcpyDeviceToHost, stream),
                       "fetching logits");
}

enum status results_send(struct prefill *p, cudaStream_t stream, int number)
{
    struct delivery *d = &p->deliveries[number % RESULTS];
    int slot = prefill_slot(p, number);
    const struct microbatch *m = &p->slots[slot];
    bool wants_bits = false, wants_logits = false;
    TRY(results_take(p, number - RESULTS + 1));
    d->n_shares = m->n_spans;
    for (int i = 0; i < m->n_spans; i++) {
        d->shares[i] = p->shares[slot][i];
        wants_bits |= d->shares[i].segment->bits != NULL;
        wants_logits |= d->shares[i].segment->logits != NULL;
    }
    if (wants_bits)
        CUDA_TRY(cudaMemcpyAsync(d->bits, p->batch.bits,
                                 m->n_rows * sizeof *d->bits,
                                 cudaMemcpyDeviceToHost, stream),
                 "fetching costs");
    if (wants_logits)
        TRY(send_logits(d, p->batch.logits, m->n_rows, stream));
    CUDA_TRY(cudaEventRecord(d->done, stream), "reading bytes");
    return OK;
}

/* ---- to the callers ----------------------------------------------------- */

/* Waits for the results of a microbatch, and hands them out.  Where a later one
 * has overflown, its error comes early. */
static enum status take(struct prefill *p, int number)
{
    struct delivery *d = &p->deliveries[number % RESULTS];
    CUDA_TRY(cudaEventSynchronize(d->done), "reading bytes");
    if (*p->overflow)
        return model_overflows(p->model);
    for (int i = 0; i < d->n_shares; i++) {
        const struct segment_share *share = &d->shares[i];
        const struct segment *s = share->segment;
        if (s->bits)
            memcpy(s->bits + share->offset, d->bits + share->row,
                   share->n * sizeof *s->bits);
        if (s->logits && !d->is_direct)
            memcpy(logits_of(share),
                   d->logits + (size_t)share->row * N_BYTES_VOCAB,
                   logits_floats(share) * sizeof *s->logits);
    }
    return OK;
}

enum status results_take(struct prefill *p, int end)
{
    for (; p->n_taken < end; p->n_taken++)
        TRY(take(p, p->n_taken));
    return OK;
}

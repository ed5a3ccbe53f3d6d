/* stopwatch.cu -- where the time of a step goes, for benchmarks.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/stopwatch.cuh"

enum { MARKS_MAX = 1 << 15 };

/* Events on a stream, each the end of a phase. */
struct stopwatch {
    cudaEvent_t events[MARKS_MAX];
    uint8_t phases[MARKS_MAX];
    int n, n_events; /* in use; created */
};

static const char *const phase_names[N_PHASES] = {
    "prepare",       "norm",      "products",   "conv",        "dtbc",
    "parts",         "states",    "scan",       "quantise",    "head",
    "products back", "gate back", "parts back", "states back", "scan back",
    "dtbc back",     "conv back", "norm back",  "embedding",   "adamw",
    "muon"};

static_assert((int)N_PHASES == (int)TRAINER_TIMES, "a time for each phase");

struct stopwatch *stopwatch_open(void)
{
    return (struct stopwatch *)calloc(1, sizeof(struct stopwatch));
}

void stopwatch_close(struct stopwatch *watch)
{
    for (int i = 0; watch && i < watch->n_events; i++)
        cudaEventDestroy(watch->events[i]);
    free(watch);
}

void mark(const struct replica *r, enum phase phase)
{
    struct stopwatch *w = r->watch;
    if (!w || w->n == MARKS_MAX)
        return;
    if (w->n == w->n_events &&
        cudaEventCreate(&w->events[w->n_events]) == cudaSuccess)
        w->n_events++;
    if (w->n == w->n_events)
        return;
    cudaEventRecord(w->events[w->n], r->stream);
    w->phases[w->n++] = (uint8_t)phase;
}

enum status stopwatch_read(const struct replica *r,
                           struct trainer_time times[TRAINER_TIMES])
{
    struct stopwatch *w = r->watch;
    TRY(replica_wait(r, "measuring"));
    for (int i = 0; i < N_PHASES; i++)
        times[i] = {phase_names[i], 0};
    for (int i = 1; w && i < w->n; i++) {
        float ms = 0.0f;
        CUDA_TRY(cudaEventElapsedTime(&ms, w->events[i - 1], w->events[i]),
                 "measuring");
        times[w->phases[i]].seconds += 1e-3 * (double)ms;
    }
    if (w)
        w->n = 0;
    return OK;
}

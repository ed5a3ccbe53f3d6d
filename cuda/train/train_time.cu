/* train_time.cu -- where the time of a step goes, for benchmarks.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/trainer.cuh"

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

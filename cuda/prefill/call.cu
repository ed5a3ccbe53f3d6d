/* call.cu -- a call of prefill that is under way, and its pooled features.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/call.cuh"

static bool wants_pooled(const struct segment *segments, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (segments[i].pooled)
            return true;
    }
    return false;
}

/* Whether those of all segments lie end to end in pinned memory. */
static bool are_together(const struct segment *segments, size_t n, size_t each,
                         const struct host_floats *floats)
{
    if (!segments[0].pooled)
        return false;
    for (size_t i = 1; i < n; i++) {
        if (segments[i].pooled != segments[0].pooled + i * each)
            return false;
    }
    return find_pinned(floats, segments[0].pooled, n * each) != NULL;
}

static enum status need_device(struct call *call, size_t n)
{
    if (n <= call->n_pooled)
        return OK;
    cudaFree(call->pooled);
    call->pooled = NULL;
    call->n_pooled = 0;
    CUDA_TRY(cudaMalloc(&call->pooled, n * sizeof *call->pooled),
             "memory for features");
    call->n_pooled = n;
    return OK;
}

static enum status need_host(struct call *call, size_t n)
{
    if (n <= call->n_host_pooled)
        return OK;
    cudaFreeHost(call->host_pooled);
    call->host_pooled = NULL;
    call->n_host_pooled = 0;
    CUDA_TRY(cudaMallocHost(&call->host_pooled, n * sizeof *call->host_pooled),
             "memory for features");
    call->n_host_pooled = n;
    return OK;
}

static enum status send_pooled(struct call *call)
{
    size_t each = call->each, n = call->n * each;
    const float *from = call->segments[0].pooled;
    TRY(need_device(call, n));
    if (!call->are_together) {
        TRY(need_host(call, n));
        from = call->host_pooled;
        for (size_t i = 0; i < call->n; i++) {
            if (call->segments[i].pooled)
                memcpy(call->host_pooled + i * each, call->segments[i].pooled,
                       each * sizeof *from);
        }
    }
    CUDA_TRY(cudaMemcpy(call->pooled, from, n * sizeof *from,
                        cudaMemcpyHostToDevice),
             "sending features");
    return OK;
}

enum status call_reserve(struct call *call, const struct segment *segments,
                         size_t n, size_t each)
{
    return wants_pooled(segments, n) ? need_device(call, n * each) : OK;
}

enum status call_open(struct call *call, const struct segment *segments,
                      size_t n, size_t each, const struct host_floats *floats)
{
    call->segments = segments;
    call->n = n;
    call->each = each;
    call->has_pooled = wants_pooled(segments, n);
    if (!call->has_pooled)
        return OK;
    call->are_together = are_together(segments, n, each, floats);
    return send_pooled(call);
}

float *call_pooled(const struct call *call, const struct segment *segment)
{
    size_t i = (size_t)(segment - call->segments);
    return segment->pooled ? call->pooled + i * call->each : NULL;
}

enum status call_finish(struct call *call)
{
    size_t each = call->each;
    if (!call->has_pooled)
        return OK;
    float *to =
        call->are_together ? call->segments[0].pooled : call->host_pooled;
    CUDA_TRY(cudaMemcpy(to, call->pooled, call->n * each * sizeof *to,
                        cudaMemcpyDeviceToHost),
             "fetching features");
    for (size_t i = 0; i < call->n && !call->are_together; i++) {
        if (call->segments[i].pooled)
            memcpy(call->segments[i].pooled, to + i * each, each * sizeof *to);
    }
    return OK;
}

void call_free(struct call *call)
{
    cudaFree(call->pooled);
    cudaFreeHost(call->host_pooled);
}

/* chain_rows.cu -- how the rows of a chain come from the host, and how their
 * results go there.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch_deliver.cuh"
#include "cuda/batch/chain.cuh"

enum { ENTER_THREADS = 1024, THREADS = 256, WARPS = THREADS / WARP };

/* One block: the streams whose chunk ends are listed in any order. */
static __global__ void __launch_bounds__(ENTER_THREADS)
    enter(struct prefill_batch b, struct mamba2_batch m, struct chain_rows rows,
          struct batch_job job)
{
    __shared__ int n_ended;
    struct microbatch *mb = (struct microbatch *)b.slots;
    if (threadIdx.x == 0)
        n_ended = 0;
    __syncthreads();
    for (int t = threadIdx.x; t < job.n_rows; t += ENTER_THREADS) {
        float *image = job.images[t];
        uint8_t byte = job.bytes[t];
        float *wanted = job.host_logits[t];
        int place = *mamba2_layer_state(image, m.state, 0).place;
        mb->spans[t] = {image, NULL, t, 1};
        mb->bytes[t] = byte;
        rows.wanted[t] = wanted;
        rows.places[t] = place;
        if (place == CHUNK - 1)
            rows.ended[1 + atomicAdd(&n_ended, 1)] = t;
    }
    __syncthreads(); /* the list is complete */
    if (threadIdx.x == 0) {
        mb->n_rows = job.n_rows;
        rows.ended[0] = n_ended;
    }
}

enum status launch_chain_enter(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m,
                               const struct chain_rows *rows,
                               const struct batch_job *job)
{
    return launch("the rows", q, dim3(1), ENTER_THREADS, 0, enter, *b, *m,
                  *rows, *job);
}

static __global__ void __launch_bounds__(THREADS)
    deliver(struct prefill_batch b, struct chain_rows rows,
            struct batch_job job)
{
    const int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (t >= job.n_rows)
        return;
    await_previous();
    deliver_row(b.slots->spans[t].image + b.image.logits,
                b.logits + (size_t)t * N_BYTES_VOCAB, b.slots->bytes[t],
                rows.wanted[t], job.host_bits + t, threadIdx.x % WARP);
}

enum status launch_chain_deliver(struct queue q, const struct prefill_batch *b,
                                 const struct chain_rows *rows,
                                 const struct batch_job *job)
{
    return launch("the predictions", q, dim3(ceil_div(job->n_rows, WARPS)),
                  THREADS, 0, deliver, *b, *rows, *job);
}

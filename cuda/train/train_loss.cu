/* train_loss.cu -- the two ends of the model: the loss and its gradient, and
 * bytes as rows.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_loss.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/fast_math.cuh"

enum {
    ROW_THREADS = 256, /* each row has a warp */
    SUM_THREADS = 1024
};

/* ---- the loss ------------------------------------------------------------ */

struct loss_job {
    const float *logits; /* [n][256] sums, of the rows from first on        */
    const float *row_scale, *col_scale;
    const uint8_t *bytes;
    int n_t, first, n;
    float share;   /* of a row in the mean                                  */
    void *dlogits; /* [n][256], times the scale of the row                  */
    float *loss;   /* [t]                                                   */
};

enum { LOGITS = N_BYTES_VOCAB / WARP }; /* that a lane has */

/* loss = log(sum of e^logit) - logit[byte];
 * its gradient is share (softmax - [i = byte]).  A warp a row. */
template <typename T> static __global__ void cross_entropy(struct loss_job j)
{
    int i = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    int lane = threadIdx.x % WARP;
    if (i >= j.n)
        return;
    int row = j.first + i, byte = byte_of(j.bytes, row, j.n_t)[1];
    const float *from = j.logits + (size_t)i * N_BYTES_VOCAB;
    T *to = (T *)j.dlogits + (size_t)i * N_BYTES_VOCAB;
    float scale = j.row_scale[row], logit[LOGITS], chosen = 0.0f, sum = 0.0f;
    float largest = -INFINITY;
    for (int k = 0; k < LOGITS; k++) {
        int at = lane + k * WARP;
        logit[k] = from[at] * (scale * j.col_scale[at]);
        chosen = at == byte ? logit[k] : chosen;
        largest = fmaxf(largest, logit[k]);
    }
    largest = warp_max(largest);
    for (int k = 0; k < LOGITS; k++) {
        logit[k] = fast_exp2((logit[k] - largest) * EXACT_LOG2E);
        sum += logit[k];
    }
    sum = warp_sum(sum);
    chosen = warp_sum(chosen);
    for (int k = 0; k < LOGITS; k++) {
        int at = lane + k * WARP;
        float p = logit[k] / sum - (at == byte ? 1.0f : 0.0f);
        put(to + at, p * j.share * scale);
    }
    if (lane == 0)
        j.loss[row] = exact_log2(sum) / EXACT_LOG2E - (chosen - largest);
}

void launch_cross_entropy(const struct replica *r, int first, int n)
{
    const struct train_tape *head = &r->tapes[r->config.n_layer];
    struct loss_job job = {r->logits,
                           head->x_scale.scale,
                           head->weights[W_IN].scale,
                           r->bytes,
                           r->n_t,
                           first,
                           n,
                           1.0f / (float)r->all_rows,
                           r->dlogits,
                           r->loss};
    int blocks = ceil_div(n, ROW_THREADS / WARP);
    START_BY_NUMBER(r, cross_entropy, blocks, ROW_THREADS, job);
}

/* One block. */
static __global__ void sum_loss(float *out, const float *loss, int n,
                                float share)
{
    __shared__ double room[SUM_THREADS];
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += SUM_THREADS)
        sum += (double)loss[i];
    sum = block_sum<SUM_THREADS>(sum, room);
    if (threadIdx.x == 0)
        *out = (float)(sum * (double)share);
}

void launch_loss(const struct replica *r)
{
    sum_loss<<<1, SUM_THREADS, 0, r->stream>>>(
        r->gradient + r->parameters->n_floats, r->loss, r->n_rows,
        1.0f / (float)r->all_rows);
}

/* ---- bytes as rows ------------------------------------------------------- */

struct one_hot_job {
    void *to; /* [n][256] numbers */
    const uint8_t *bytes;
    int n_t, first, n;
};

/* A thread has four columns of a row. */
template <typename T> static __global__ void one_hot(struct one_hot_job j)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int row = i / (N_BYTES_VOCAB / 4), c = i % (N_BYTES_VOCAB / 4) * 4;
    if (row >= j.n)
        return;
    int at = *byte_of(j.bytes, j.first + row, j.n_t) - c;
    put4((T *)j.to + (size_t)row * N_BYTES_VOCAB + c,
         make_float4(at == 0 ? 1.0f : 0.0f, at == 1 ? 1.0f : 0.0f,
                     at == 2 ? 1.0f : 0.0f, at == 3 ? 1.0f : 0.0f));
}

void launch_one_hot(const struct replica *r, int first, int n)
{
    struct one_hot_job job = {r->dlogits, r->bytes, r->n_t, first, n};
    int blocks = ceil_div(n * (N_BYTES_VOCAB / 4), ROW_THREADS);
    START_BY_NUMBER(r, one_hot, blocks, ROW_THREADS, job);
}

/* backward.c -- the gradient of the loss by every weight, on the CPU.
 *
 * Row t of an array is a byte of the batch: row w * n_t + i is byte i of
 * window w.  Like a batch of the engine, a step runs inside one threads_run:
 * every thread walks the layers, takes its part of each phase by index, and
 * meets the others at a barrier where it needs what they wrote.  A part is a
 * range of rows, of channels, or of rows of a weight; each number is made by
 * one thread, in one order.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/backward.h"

#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "engine/engine.h"
#include "kernels/cpu_kernels.h"
#include "kernels/train_kernels.h"
#include "model/quantise.h"

enum { ALIGNMENT = 64 };

/* A projection y = W x, made ready for a step. */
struct weight {
    const struct parameter *parameter;
    int rows, cols;
    const float *value; /* [rows][cols], as the forward pass multiplies     */
    float *rounded;     /* the same when imitated: the int8 multiplied out  */
    int8_t *q;          /* [rows][cols]                                     */
    float *scale;       /* [rows]                                           */
    struct projection projection;
    float *transposed; /* [cols][rows], when not imitated                  */
};

enum { W_IN, W_X, W_DT, W_OUT, N_WEIGHTS };

struct tape {
    struct weight weights[N_WEIGHTS];
    float *conv, *dconv;       /* [d_conv][d_inner]                         */
    float *a_log2e, *da_log2e; /* [d_state][d_inner]                        */
    float *h;                  /* [t][d_model], what the layer reads        */
    float *uz;                 /* [t][2 d_inner], before the convolution    */
    float *u;                  /* [t][d_inner], after it                    */
    float *dtbc;               /* [t][dt_rank + 2 d_state]                  */
    float *v;                  /* [t][d_inner], dt_proj dt                  */
    float *y;                  /* [t][d_inner]                              */
};

/* Room of one thread for the states of a block. */
struct scratch {
    float *states; /* [n_t + 1][d_state][LANES] */
    float *decays; /* [n_t][d_state][LANES]     */
    float *da;     /* [n_t][LANES]              */
};

struct backward {
    const struct parameters *parameters;
    const struct train_kernels *kernels;
    const struct cpu_kernels *int8;
    struct threads *team;
    int n_windows, n_t, n_rows;
    bool imitates;

    /* One step. */
    const float *weights;
    float *gradient;
    const struct windows *windows;

    void *arena; /* owned: everything below                   */
    size_t n_bytes;
    struct tape *tapes; /* [n_layer + 1]; of the last only h is used */
    struct weight lm_head;
    struct scratch *scratch; /* [threads]                                 */
    float *states, *after;   /* [n_windows][trainer_state_floats()]       */
    float *x;                /* [t][d_model], normed                      */
    float *mean, *r;         /* [t], of the norm                          */
    float *logits;           /* [t][256], then their gradient             */
    float *loss;             /* [t]                                       */
    int8_t *q;               /* [t][q_ld]                                 */
    int q_ld;
    float *q_scale;      /* [t]                                       */
    int32_t *q_sum;      /* [t]                                       */
    float *seen;         /* [t][widest input], as the products saw it */
    float *dh, *dx;      /* [t][d_model]                              */
    float *dy, *du, *dv; /* [t][d_inner]                              */
    float *duz;          /* [t][2 d_inner]                            */
    float *ddtbc;        /* [t][dt_rank + 2 d_state]                  */
    float *dbc;          /* [t][blocks][2 d_state]                    */
};

static const struct model_config *config_of(const struct backward *b)
{
    return &b->parameters->config;
}

struct range {
    int begin, end;
};

static struct range split(const struct backward *b, int n, int thread)
{
    struct range r;
    threads_split(&r.begin, &r.end, n, thread, threads_count(b->team));
    return r;
}

static struct range rows_of(const struct backward *b, int thread)
{
    return split(b, b->n_rows, thread);
}

static void meet(struct backward *b)
{
    threads_barrier(b->team);
}

static size_t ld_dtbc(const struct backward *b)
{
    const struct model_config *c = config_of(b);
    return (size_t)(c->dt_rank + 2 * c->d_state);
}

/* ---- weights, made ready ------------------------------------------------ */

static void round_rows(struct weight *w, const float *from, struct range rows)
{
    for (int r = rows.begin; r < rows.end; r++) {
        size_t at = (size_t)r * (size_t)w->cols;
        quantise_row(w->q + at, w->scale + r, from + at, w->cols);
        for (int i = 0; i < w->cols; i++)
            w->rounded[at + (size_t)i] =
                (float)w->q[at + (size_t)i] * w->scale[r];
    }
}

static void transpose_rows(struct weight *w, const float *from,
                           struct range rows)
{
    for (int i = 0; i < w->cols; i++) {
        float *to = w->transposed + (size_t)i * (size_t)w->rows;
        for (int r = rows.begin; r < rows.end; r++)
            to[r] = from[(size_t)r * (size_t)w->cols + (size_t)i];
    }
}

static void prepare_weight(struct backward *b, int thread, struct weight *w)
{
    const float *from = b->weights + w->parameter->offset;
    struct range mine = split(b, w->rows, thread);
    if (b->imitates)
        round_rows(w, from, mine);
    else
        transpose_rows(w, from, mine);
    if (thread == 0)
        w->value = b->imitates ? w->rounded : from;
}

/* [d_inner][n] to [n][d_inner] */
static void transpose_channels(float *to, const float *from, int d_inner, int n)
{
    for (int c = 0; c < d_inner; c++) {
        for (int i = 0; i < n; i++)
            to[(size_t)i * (size_t)d_inner + (size_t)c] = *from++;
    }
}

/* As model.c has them: A log2(e) = -exp(A_log) log2(e). */
static void prepare_channels(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    struct tape *tape = &b->tapes[l];
    const float *conv =
        b->weights + parameters_at(b->parameters, l, P_CONV)->offset;
    const float *a_log =
        b->weights + parameters_at(b->parameters, l, P_A_LOG)->offset;
    size_t n_taps = (size_t)c->d_conv * (size_t)c->d_inner;
    size_t n_states = (size_t)c->d_state * (size_t)c->d_inner;
    transpose_channels(tape->conv, conv, c->d_inner, c->d_conv);
    transpose_channels(tape->a_log2e, a_log, c->d_inner, c->d_state);
    for (size_t i = 0; i < n_states; i++)
        tape->a_log2e[i] = -exact_exp(tape->a_log2e[i]) * EXACT_LOG2E;
    memset(tape->dconv, 0, n_taps * sizeof(float));
    memset(tape->da_log2e, 0, n_states * sizeof(float));
}

static void clear_gradient(struct backward *b, int thread)
{
    size_t n = b->parameters->n_floats;
    size_t team = (size_t)threads_count(b->team), i = (size_t)thread;
    size_t begin = n * i / team, end = n * (i + 1) / team;
    memset(b->gradient + begin, 0, (end - begin) * sizeof(float));
}

static void pack(struct backward *b, struct weight *w)
{
    if (b->imitates && w->projection.panels)
        b->int8->pack(w->projection.panels, &w->projection.matrix);
}

static void prepare(struct backward *b, int thread)
{
    int n_layer = config_of(b)->n_layer;
    clear_gradient(b, thread);
    for (int l = 0; l < n_layer; l++) {
        for (int i = 0; i < N_WEIGHTS; i++)
            prepare_weight(b, thread, &b->tapes[l].weights[i]);
    }
    prepare_weight(b, thread, &b->lm_head);
    meet(b);
    for (int l = thread; l < n_layer; l += threads_count(b->team)) {
        prepare_channels(b, l);
        for (int i = 0; i < N_WEIGHTS; i++)
            pack(b, &b->tapes[l].weights[i]);
    }
    if (thread == 0)
        pack(b, &b->lm_head);
    meet(b);
}

/* ---- products ----------------------------------------------------------- */

/* Rows of floats. */
struct rows {
    float *x;
    size_t ld;
};

/* Room for rows of n numbers in int8.  Threads are not all at the same
 * projection: whatever n is, the rows of one, from first on, are apart from
 * those of the others. */
static struct quantised quantised_of(struct backward *b, int n, int first)
{
    int ld = (n + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
    int8_t *q = b->q + (size_t)first * (size_t)(b->q_ld - ld);
    return (struct quantised){q, ld, b->q_scale, b->q_sum};
}

/* y <- W x, this thread's rows (added to y when accumulate). */
static void project(struct backward *b, int thread, struct rows y,
                    const struct weight *w, struct rows x, bool accumulate)
{
    struct range t = rows_of(b, thread);
    if (t.begin == t.end)
        return;
    if (b->imitates) {
        struct quantised q = quantised_of(b, w->cols, t.begin);
        b->int8->quantise(&q, x.x, x.ld, w->cols, t.begin, t.end);
        b->int8->matmul(y.x, y.ld, &w->projection, &q, accumulate, t.begin,
                        t.end, 0, w->rows);
        return;
    }
    struct product job = {
        .c = y.x,
        .ld_c = y.ld,
        .a = x.x,
        .a_i = x.ld,
        .a_k = 1,
        .b = w->transposed,
        .ld_b = (size_t)w->rows,
        .n_j = w->rows,
        .n_k = w->cols,
        .accumulate = accumulate,
    };
    b->kernels->product(&job, t.begin, t.end);
}

/* This thread's rows of x as the product of the forward pass saw them. */
static struct rows see(struct backward *b, int thread, struct rows x, int n)
{
    struct range t = rows_of(b, thread);
    if (!b->imitates)
        return x;
    struct rows seen = {b->seen, (size_t)n};
    struct quantised q = quantised_of(b, n, t.begin);
    b->int8->quantise(&q, x.x, x.ld, n, t.begin, t.end);
    for (int row = t.begin; row < t.end; row++) {
        const int8_t *from = q.q + (size_t)row * (size_t)q.ld;
        float *to = seen.x + (size_t)row * seen.ld;
        for (int i = 0; i < n; i++)
            to[i] = (float)from[i] * q.scale[row];
    }
    return seen;
}

/* dx = dy W (added to dx when accumulate); dW += dy^T x.  All threads meet
 * in here, once before and once after dW. */
static void project_backward(struct backward *b, int thread,
                             const struct weight *w, struct rows dx,
                             struct rows dy, struct rows x, bool accumulate)
{
    struct rows seen = see(b, thread, x, w->cols);
    struct range t = rows_of(b, thread), r = split(b, w->rows, thread);
    struct product by_x = {
        .c = dx.x,
        .ld_c = dx.ld,
        .a = dy.x,
        .a_i = dy.ld,
        .a_k = 1,
        .b = w->value,
        .ld_b = (size_t)w->cols,
        .n_j = w->cols,
        .n_k = w->rows,
        .accumulate = accumulate,
    };
    struct product by_w = {
        .c = b->gradient + w->parameter->offset,
        .ld_c = (size_t)w->cols,
        .a = dy.x,
        .a_i = 1,
        .a_k = dy.ld,
        .b = seen.x,
        .ld_b = seen.ld,
        .n_j = w->cols,
        .n_k = b->n_rows,
        .accumulate = true,
    };
    b->kernels->product(&by_x, t.begin, t.end);
    meet(b);
    b->kernels->product(&by_w, r.begin, r.end);
    meet(b);
}

/* ---- passes over windows and channels ----------------------------------- */

static const float *weight_at(const struct backward *b, int l, enum place place)
{
    return b->weights + parameters_at(b->parameters, l, place)->offset;
}

static float *gradient_at(const struct backward *b, int l, enum place place)
{
    return b->gradient + parameters_at(b->parameters, l, place)->offset;
}

static struct conv_pass conv_of(struct backward *b, int l, int w, int thread)
{
    const struct model_config *c = config_of(b);
    const struct tape *tape = &b->tapes[l];
    size_t d_inner = (size_t)c->d_inner, n = trainer_state_floats(c);
    size_t row = (size_t)w * (size_t)b->n_t;
    return (struct conv_pass){
        .in = tape->uz + row * 2 * d_inner,
        .ld_in = 2 * d_inner,
        .u = tape->u + row * d_inner,
        .history = state_conv(c, b->states + (size_t)w * n, l),
        .history_after = state_conv(c, b->after + (size_t)w * n, l),
        .conv = tape->conv,
        .bias = weight_at(b, l, P_CONV_BIAS),
        .n_t = b->n_t,
        .d_inner = c->d_inner,
        .d_conv = c->d_conv,
        .du = b->du + row * d_inner,
        .din = b->duz + row * 2 * d_inner,
        .dconv = tape->dconv,
        .dbias = gradient_at(b, l, P_CONV_BIAS),
        .da = b->scratch[thread].da,
    };
}

static struct scan_pass scan_of(struct backward *b, int l, int w, int thread)
{
    const struct model_config *c = config_of(b);
    const struct tape *tape = &b->tapes[l];
    size_t d_inner = (size_t)c->d_inner, n = trainer_state_floats(c);
    size_t row = (size_t)w * (size_t)b->n_t;
    const float *b_c = tape->dtbc + row * ld_dtbc(b) + c->dt_rank;
    size_t n_blocks = (size_t)blocks_of(c->d_inner);
    return (struct scan_pass){
        .v = tape->v + row * d_inner,
        .u = tape->u + row * d_inner,
        .z = tape->uz + row * 2 * d_inner + d_inner,
        .ld_z = 2 * d_inner,
        .b = b_c,
        .c = b_c + c->d_state,
        .ld_bc = ld_dtbc(b),
        .y = tape->y + row * d_inner,
        .s = state_s(c, b->states + (size_t)w * n, l),
        .s_after = state_s(c, b->after + (size_t)w * n, l),
        .a_log2e = tape->a_log2e,
        .d = weight_at(b, l, P_D),
        .dt_bias = weight_at(b, l, P_DT_BIAS),
        .n_t = b->n_t,
        .d_inner = c->d_inner,
        .d_state = c->d_state,
        .dy = b->dy + row * d_inner,
        .du = b->du + row * d_inner,
        .dv = b->dv + row * d_inner,
        .dz = b->duz + row * 2 * d_inner + d_inner,
        .dbc = b->dbc + row * n_blocks * 2 * (size_t)c->d_state,
        .da_log2e = tape->da_log2e,
        .dd = gradient_at(b, l, P_D),
        .ddt_bias = gradient_at(b, l, P_DT_BIAS),
        .states = b->scratch[thread].states,
        .decays = b->scratch[thread].decays,
    };
}

/* Forward: windows and blocks are independent of each other. */
static void convolve(struct backward *b, int thread, int l)
{
    int n_blocks = blocks_of(config_of(b)->d_inner);
    struct range mine = split(b, b->n_windows * n_blocks, thread);
    for (int i = mine.begin; i < mine.end; i++) {
        struct conv_pass job = conv_of(b, l, i / n_blocks, thread);
        b->kernels->conv(&job, i % n_blocks);
    }
}

static void scan(struct backward *b, int thread, int l)
{
    int n_blocks = blocks_of(config_of(b)->d_inner);
    struct range mine = split(b, b->n_windows * n_blocks, thread);
    for (int i = mine.begin; i < mine.end; i++) {
        struct scan_pass job = scan_of(b, l, i / n_blocks, thread);
        b->kernels->scan(&job, i % n_blocks);
    }
}

/* Backward: the windows of a block add to the same weights, in turn. */
static void convolve_backward(struct backward *b, int thread, int l)
{
    struct range mine = split(b, blocks_of(config_of(b)->d_inner), thread);
    for (int block = mine.begin; block < mine.end; block++) {
        for (int w = 0; w < b->n_windows; w++) {
            struct conv_pass job = conv_of(b, l, w, thread);
            b->kernels->conv_backward(&job, block);
        }
    }
}

static void scan_backward(struct backward *b, int thread, int l)
{
    struct range mine = split(b, blocks_of(config_of(b)->d_inner), thread);
    for (int block = mine.begin; block < mine.end; block++) {
        for (int w = 0; w < b->n_windows; w++) {
            struct scan_pass job = scan_of(b, l, w, thread);
            b->kernels->scan_backward(&job, block);
        }
    }
}

/* dB and dC of this thread's rows: the sum over blocks. */
static void sum_blocks(struct backward *b, int thread)
{
    const struct model_config *c = config_of(b);
    struct range t = rows_of(b, thread);
    int n_blocks = blocks_of(c->d_inner), n = 2 * c->d_state;
    for (int row = t.begin; row < t.end; row++) {
        float *to = b->ddtbc + (size_t)row * ld_dtbc(b) + c->dt_rank;
        const float *from = b->dbc + (size_t)row * (size_t)(n_blocks * n);
        memcpy(to, from, sizeof(float) * (size_t)n);
        for (int block = 1; block < n_blocks; block++) {
            from += n;
            for (int i = 0; i < n; i++)
                to[i] += from[i];
        }
    }
}

/* ---- norms -------------------------------------------------------------- */

/* Of layer l, or of the end of the model when l is n_layer. */
static struct norm_pass norm_of(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    const struct parameters *p = b->parameters;
    bool is_last = l == c->n_layer;
    const struct parameter *weight =
        is_last ? parameters_norm_f(p) : parameters_at(p, l, P_NORM);
    const struct parameter *bias =
        is_last ? parameters_norm_f_bias(p) : parameters_at(p, l, P_NORM_BIAS);
    return (struct norm_pass){
        .h = b->tapes[l].h,
        .x = b->x,
        .weight = b->weights + weight->offset,
        .bias = bias->n > 0 ? b->weights + bias->offset : NULL,
        .epsilon = c->norm_epsilon,
        .d = c->d_model,
        .mean = b->mean,
        .r = b->r,
    };
}

static void norm(struct backward *b, int thread, int l)
{
    struct range t = rows_of(b, thread);
    struct norm_pass job = norm_of(b, l);
    b->kernels->norm(&job, t.begin, t.end);
}

/* dx and the rows of the norm are there; others may still read them when
 * this returns. */
static void norm_backward(struct backward *b, int thread, int l)
{
    struct range t = rows_of(b, thread);
    struct norm_pass job = norm_of(b, l);
    struct range columns = split(b, job.d, thread);
    float *dweight = b->gradient + (job.weight - b->weights);
    float *dbias = job.bias ? b->gradient + (job.bias - b->weights) : NULL;
    b->kernels->norm_backward(&job, b->dh, b->dx, t.begin, t.end);
    b->kernels->norm_backward_weight(&job, dweight, dbias, b->dx, b->n_rows,
                                     columns.begin, columns.end);
}

/* ---- layers ------------------------------------------------------------- */

static void run_layer(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    struct tape *tape = &b->tapes[l];
    const struct weight *w = tape->weights;
    size_t d_model = (size_t)c->d_model, d_inner = (size_t)c->d_inner;
    struct rows x = {b->x, d_model}, uz = {tape->uz, 2 * d_inner};
    struct rows u = {tape->u, d_inner}, dtbc = {tape->dtbc, ld_dtbc(b)};
    struct rows v = {tape->v, d_inner}, y = {tape->y, d_inner};
    struct rows next = {b->tapes[l + 1].h, d_model};

    /* u | z = in_proj norm(h) */
    norm(b, thread, l);
    project(b, thread, uz, &w[W_IN], x, false);
    meet(b);

    /* u = silu(conv(u)) */
    convolve(b, thread, l);
    meet(b);

    /* dt | B | C = x_proj u;  v = dt_proj dt */
    project(b, thread, dtbc, &w[W_X], u, false);
    project(b, thread, v, &w[W_DT], dtbc, false);
    meet(b);

    scan(b, thread, l);
    meet(b);

    /* h = h + out_proj y */
    struct range t = rows_of(b, thread);
    memcpy(next.x + (size_t)t.begin * d_model,
           tape->h + (size_t)t.begin * d_model,
           (size_t)(t.end - t.begin) * d_model * sizeof(float));
    project(b, thread, next, &w[W_OUT], y, true);
}

static void run_layer_backward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    struct tape *tape = &b->tapes[l];
    const struct weight *w = tape->weights;
    size_t d_model = (size_t)c->d_model, d_inner = (size_t)c->d_inner;
    struct rows x = {b->x, d_model}, dx = {b->dx, d_model};
    struct rows u = {tape->u, d_inner}, du = {b->du, d_inner};
    struct rows y = {tape->y, d_inner}, dy = {b->dy, d_inner};
    struct rows dtbc = {tape->dtbc, ld_dtbc(b)};
    struct rows ddtbc = {b->ddtbc, ld_dtbc(b)};
    struct rows dv = {b->dv, d_inner}, dh = {b->dh, d_model};
    struct rows duz = {b->duz, 2 * d_inner};

    project_backward(b, thread, &w[W_OUT], dy, dh, y, false);
    scan_backward(b, thread, l);
    meet(b);
    sum_blocks(b, thread);
    project_backward(b, thread, &w[W_DT], ddtbc, dv, dtbc, false);
    project_backward(b, thread, &w[W_X], du, ddtbc, u, true);
    convolve_backward(b, thread, l);
    meet(b);
    norm(b, thread, l);
    project_backward(b, thread, &w[W_IN], dx, duz, x, false);
    norm_backward(b, thread, l);
}

/* ---- the ends ----------------------------------------------------------- */

static uint8_t byte_at(const struct backward *b, int row, int offset)
{
    size_t w = (size_t)(row / b->n_t), i = (size_t)(row % b->n_t);
    return b->windows->bytes[w * (size_t)(b->n_t + 1) + i + (size_t)offset];
}

static void embed(struct backward *b, int thread)
{
    struct range t = rows_of(b, thread);
    size_t d = (size_t)config_of(b)->d_model;
    const float *embedding =
        b->weights + parameters_embedding(b->parameters)->offset;
    for (int row = t.begin; row < t.end; row++)
        memcpy(b->tapes[0].h + (size_t)row * d,
               embedding + byte_at(b, row, 0) * d, d * sizeof(float));
}

/* The columns of this thread, from all rows. */
static void embed_backward(struct backward *b, int thread)
{
    size_t d = (size_t)config_of(b)->d_model;
    struct range mine = split(b, (int)d, thread);
    float *gradient = b->gradient + parameters_embedding(b->parameters)->offset;
    for (int row = 0; row < b->n_rows; row++) {
        float *to = gradient + byte_at(b, row, 0) * d;
        const float *dh = b->dh + (size_t)row * d;
        for (int i = mine.begin; i < mine.end; i++)
            to[i] += dh[i];
    }
}

/* loss = log(sum of e^logit) - logit[byte];
 * its gradient, over n rows, is (softmax - [i = byte]) / n. */
static float cross_entropy(float logits[N_BYTES_VOCAB], uint8_t byte, float n)
{
    float largest = logits[0], chosen = logits[byte];
    for (int i = 1; i < N_BYTES_VOCAB; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    float sum = 0.0f;
    for (int i = 0; i < N_BYTES_VOCAB; i++) {
        logits[i] = exact_exp(logits[i] - largest);
        sum += logits[i];
    }
    float factor = 1.0f / (sum * n);
    for (int i = 0; i < N_BYTES_VOCAB; i++)
        logits[i] *= factor;
    logits[byte] -= 1.0f / n;
    return exact_log2(sum) / EXACT_LOG2E - (chosen - largest);
}

/* The prediction, its loss and its gradient. */
static void run_head(struct backward *b, int thread)
{
    int n_layer = config_of(b)->n_layer;
    size_t d = (size_t)config_of(b)->d_model;
    struct range t = rows_of(b, thread);
    struct rows x = {b->x, d}, dx = {b->dx, d};
    struct rows logits = {b->logits, N_BYTES_VOCAB};
    norm(b, thread, n_layer);
    project(b, thread, logits, &b->lm_head, x, false);
    for (int row = t.begin; row < t.end; row++)
        b->loss[row] = cross_entropy(b->logits + (size_t)row * N_BYTES_VOCAB,
                                     byte_at(b, row, 1), (float)b->n_rows);
    memset(b->dh + (size_t)t.begin * d, 0,
           (size_t)(t.end - t.begin) * d * sizeof(float));
    project_backward(b, thread, &b->lm_head, dx, logits, x, false);
    norm_backward(b, thread, n_layer);
}

/* To the order of the weights; A_log from A log2(e) = -exp(A_log) log2(e),
 * whose derivative is itself. */
static void finish_channels(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    const struct tape *tape = &b->tapes[l];
    float *dconv = gradient_at(b, l, P_CONV);
    float *da_log = gradient_at(b, l, P_A_LOG);
    size_t d_inner = (size_t)c->d_inner;
    for (size_t i = 0; i < d_inner; i++) {
        for (size_t k = 0; k < (size_t)c->d_conv; k++)
            *dconv++ = tape->dconv[k * d_inner + i];
        for (size_t s = 0; s < (size_t)c->d_state; s++)
            *da_log++ = tape->da_log2e[s * d_inner + i] *
                        tape->a_log2e[s * d_inner + i];
    }
}

static void run(void *context, int thread)
{
    struct backward *b = context;
    int n_layer = config_of(b)->n_layer;
    prepare(b, thread);
    embed(b, thread);
    for (int l = 0; l < n_layer; l++)
        run_layer(b, thread, l);
    run_head(b, thread);
    for (int l = n_layer - 1; l >= 0; l--)
        run_layer_backward(b, thread, l);
    meet(b);
    embed_backward(b, thread);
    for (int l = thread; l < n_layer; l += threads_count(b->team))
        finish_channels(b, l);
}

/* ---- the whole ---------------------------------------------------------- */

static void begin_states(struct backward *b)
{
    size_t n = trainer_state_floats(config_of(b));
    for (int w = 0; w < b->n_windows; w++) {
        if (b->windows->begins[w])
            memset(b->states + (size_t)w * n, 0, n * sizeof(float));
    }
}

double backward_run(struct backward *backward, float *gradient,
                    const float *weights, const struct windows *windows)
{
    struct backward *b = backward;
    b->gradient = gradient;
    b->weights = weights;
    b->windows = windows;
    begin_states(b);
    threads_run(b->team, run, b);
    float *states = b->states;
    b->states = b->after;
    b->after = states;

    double loss = 0;
    for (int row = 0; row < b->n_rows; row++)
        loss += (double)b->loss[row];
    return loss / b->n_rows;
}

float *backward_states(struct backward *backward)
{
    return backward->states;
}

size_t backward_bytes(const struct backward *backward)
{
    return backward->n_bytes;
}

/* ---- memory ------------------------------------------------------------- */

/* Room taken one after the other; without a base, only counted. */
struct carver {
    char *base;
    size_t n_bytes;
};

static void *carve(struct carver *carver, size_t n, size_t size)
{
    void *room = carver->base ? carver->base + carver->n_bytes : NULL;
    carver->n_bytes += (n * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return room;
}

static float *carve_floats(struct carver *carver, size_t rows, size_t cols)
{
    return carve(carver, rows * cols, sizeof(float));
}

static void carve_weight(struct backward *b, struct carver *carver,
                         struct weight *w, const struct parameter *parameter)
{
    size_t rows = (size_t)parameter->shape[0];
    size_t cols = (size_t)parameter->shape[1];
    w->parameter = parameter;
    w->rows = parameter->shape[0];
    w->cols = parameter->shape[1];
    if (!b->imitates) {
        w->transposed = carve_floats(carver, cols, rows);
        return;
    }
    w->rounded = carve_floats(carver, rows, cols);
    w->q = carve(carver, rows * cols, 1);
    w->scale = carve_floats(carver, rows, 1);
    struct matrix matrix = {
        .rows = w->rows, .cols = w->cols, .q = w->q, .scale = w->scale};
    size_t n_panels = b->int8->panels_size(&matrix);
    w->projection.matrix = matrix;
    w->projection.panels = n_panels > 0 ? carve(carver, n_panels, 1) : NULL;
}

static void carve_tape(struct backward *b, struct carver *carver, int l)
{
    static const enum place places[N_WEIGHTS] = {
        [W_IN] = P_IN_PROJ,
        [W_X] = P_X_PROJ,
        [W_DT] = P_DT_PROJ,
        [W_OUT] = P_OUT_PROJ,
    };
    const struct model_config *c = config_of(b);
    struct tape *tape = &b->tapes[l];
    size_t n = (size_t)b->n_rows, d_inner = (size_t)c->d_inner;
    size_t d_conv = (size_t)c->d_conv, d_state = (size_t)c->d_state;
    for (int i = 0; i < N_WEIGHTS; i++)
        carve_weight(b, carver, &tape->weights[i],
                     parameters_at(b->parameters, l, places[i]));
    tape->conv = carve_floats(carver, d_conv, d_inner);
    tape->dconv = carve_floats(carver, d_conv, d_inner);
    tape->a_log2e = carve_floats(carver, d_state, d_inner);
    tape->da_log2e = carve_floats(carver, d_state, d_inner);
    tape->h = carve_floats(carver, n, (size_t)c->d_model);
    tape->uz = carve_floats(carver, n, 2 * d_inner);
    tape->u = carve_floats(carver, n, d_inner);
    tape->dtbc = carve_floats(carver, n, ld_dtbc(b));
    tape->v = carve_floats(carver, n, d_inner);
    tape->y = carve_floats(carver, n, d_inner);
}

static void carve_scratch(struct backward *b, struct carver *carver, int i)
{
    size_t d_state = (size_t)config_of(b)->d_state, n_t = (size_t)b->n_t;
    struct scratch *s = &b->scratch[i];
    s->states = carve_floats(carver, (n_t + 1) * d_state, LANES);
    s->decays = carve_floats(carver, n_t * d_state, LANES);
    s->da = carve_floats(carver, n_t, LANES);
}

static void carve_forward(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    size_t n = (size_t)b->n_rows, n_windows = (size_t)b->n_windows;
    int widest = c->d_inner > c->d_model ? c->d_inner : c->d_model;
    widest = widest > c->dt_rank ? widest : c->dt_rank;
    b->q_ld = (widest + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
    b->states = carve_floats(carver, n_windows, trainer_state_floats(c));
    b->after = carve_floats(carver, n_windows, trainer_state_floats(c));
    b->x = carve_floats(carver, n, (size_t)c->d_model);
    b->mean = carve_floats(carver, n, 1);
    b->r = carve_floats(carver, n, 1);
    b->logits = carve_floats(carver, n, N_BYTES_VOCAB);
    b->loss = carve_floats(carver, n, 1);
    if (!b->imitates)
        return;
    b->q = carve(carver, n * (size_t)b->q_ld, 1);
    b->q_scale = carve_floats(carver, n, 1);
    b->q_sum = carve(carver, n, sizeof(int32_t));
    b->seen = carve_floats(carver, n, (size_t)widest);
}

static void carve_backward(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    size_t n = (size_t)b->n_rows, d_inner = (size_t)c->d_inner;
    size_t n_blocks = (size_t)blocks_of(c->d_inner);
    b->dh = carve_floats(carver, n, (size_t)c->d_model);
    b->dx = carve_floats(carver, n, (size_t)c->d_model);
    b->dy = carve_floats(carver, n, d_inner);
    b->du = carve_floats(carver, n, d_inner);
    b->dv = carve_floats(carver, n, d_inner);
    b->duz = carve_floats(carver, n, 2 * d_inner);
    b->ddtbc = carve_floats(carver, n, ld_dtbc(b));
    b->dbc = carve_floats(carver, n, n_blocks * 2 * (size_t)c->d_state);
}

static size_t lay_out(struct backward *b, void *base)
{
    struct carver carver = {.base = base};
    const struct model_config *c = config_of(b);
    for (int l = 0; l < c->n_layer; l++)
        carve_tape(b, &carver, l);
    b->tapes[c->n_layer].h =
        carve_floats(&carver, (size_t)b->n_rows, (size_t)c->d_model);
    carve_weight(b, &carver, &b->lm_head, parameters_lm_head(b->parameters));
    for (int i = 0; i < threads_count(b->team); i++)
        carve_scratch(b, &carver, i);
    carve_forward(b, &carver);
    carve_backward(b, &carver);
    return carver.n_bytes;
}

static enum status allocate(struct backward *b)
{
    size_t n_tapes = (size_t)config_of(b)->n_layer + 1;
    b->tapes = calloc(n_tapes, sizeof *b->tapes);
    b->scratch = calloc((size_t)threads_count(b->team), sizeof *b->scratch);
    if (!b->tapes || !b->scratch)
        return fail_memory("training");
    b->n_bytes = lay_out(b, NULL);
    b->arena = aligned_alloc(ALIGNMENT, b->n_bytes);
    if (!b->arena)
        return fail(E_MEMORY,
                    "out of memory for training: %zu MB are needed; fewer or "
                    "shorter windows need less",
                    b->n_bytes >> 20);
    memset(b->arena, 0, b->n_bytes);
    lay_out(b, b->arena);
    return OK;
}

enum status backward_open(struct backward **backward,
                          const struct parameters *parameters,
                          const struct backward_options *options,
                          struct threads *team)
{
    *backward = NULL;
    struct backward *b = calloc(1, sizeof *b);
    if (!b)
        return fail_memory("training");
    b->parameters = parameters;
    b->kernels = options->kernels ? options->kernels : train_kernels_find();
    b->int8 = cpu_kernels_find(NULL);
    b->team = team;
    b->n_windows = options->n_windows;
    b->n_t = options->n_t;
    b->n_rows = options->n_windows * options->n_t;
    b->imitates = options->imitates_int8;
    enum status status = allocate(b);
    if (status != OK) {
        backward_close(b);
        return status;
    }
    *backward = b;
    return OK;
}

void backward_close(struct backward *backward)
{
    if (!backward)
        return;
    free(backward->arena);
    free(backward->tapes);
    free(backward->scratch);
    free(backward);
}

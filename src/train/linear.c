/* linear.c -- y = W x, in float32 or imitated in int8, and its gradients.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/quantise.h"
#include "train/backward_pass.h"

/* ---- the weight --------------------------------------------------------- */

void linear_lay_out(struct backward *b, struct carver *carver,
                    struct linear *linear, const struct parameter *parameter)
{
    struct linear *w = linear;
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

static void round_rows(struct linear *w, const float *from, struct range rows)
{
    for (int r = rows.begin; r < rows.end; r++) {
        size_t at = (size_t)r * (size_t)w->cols;
        quantise_row(w->q + at, w->scale + r, from + at, w->cols);
        for (int i = 0; i < w->cols; i++)
            w->rounded[at + (size_t)i] =
                (float)w->q[at + (size_t)i] * w->scale[r];
    }
}

static void transpose_rows(struct linear *w, const float *from,
                           struct range rows)
{
    for (int i = 0; i < w->cols; i++) {
        float *to = w->transposed + (size_t)i * (size_t)w->rows;
        for (int r = rows.begin; r < rows.end; r++)
            to[r] = from[(size_t)r * (size_t)w->cols + (size_t)i];
    }
}

void linear_prepare(struct backward *b, int thread, struct linear *linear)
{
    const float *from = b->weights + linear->parameter->offset;
    struct range mine = share_of(b, linear->rows, thread);
    if (b->imitates)
        round_rows(linear, from, mine);
    else
        transpose_rows(linear, from, mine);
    if (thread == 0)
        linear->value = b->imitates ? linear->rounded : from;
}

void linear_pack(struct backward *b, struct linear *linear)
{
    if (b->imitates && linear->projection.panels)
        b->int8->pack(linear->projection.panels, &linear->projection.matrix);
}

/* ---- products ----------------------------------------------------------- */

/* Room for rows of n numbers in int8.  Threads may be at different
 * projections: the rows of this one begin at first, and whatever n is, they
 * lie apart from those of the others. */
struct quantised linear_room(struct backward *b, int n, int first)
{
    int ld = cpu_padded(n);
    int8_t *q = b->q + (size_t)first * (size_t)(b->q_ld - ld);
    return (struct quantised){q, ld, b->q_scale, b->q_sum};
}

void linear_multiply(struct backward *b, int thread, struct activations y,
                     const struct linear *linear, const struct quantised *q,
                     bool accumulate)
{
    struct range t = rows_of(b, thread);
    if (t.begin < t.end)
        b->int8->matmul(y.x, y.ld, &linear->projection, q, accumulate, t.begin,
                        t.end, 0, linear->rows);
}

void linear_forward(struct backward *b, int thread, struct activations y,
                    const struct linear *linear, struct activations x,
                    bool accumulate)
{
    struct range t = rows_of(b, thread);
    if (t.begin == t.end)
        return;
    if (b->imitates) {
        struct quantised q = linear_room(b, linear->cols, t.begin);
        b->int8->quantise(&q, x.x, x.ld, linear->cols, t.begin, t.end);
        linear_multiply(b, thread, y, linear, &q, accumulate);
        return;
    }
    struct product job = {
        .c = y.x,
        .ld_c = y.ld,
        .a = x.x,
        .a_i = x.ld,
        .a_k = 1,
        .b = linear->transposed,
        .ld_b = (size_t)linear->rows,
        .n_j = linear->rows,
        .n_k = linear->cols,
        .accumulate = accumulate,
    };
    b->kernels->product(&job, t.begin, t.end);
}

/* This thread's rows of x as the product of the forward pass saw them. */
static struct activations see(struct backward *b, int thread,
                              struct activations x, int n)
{
    struct range t = rows_of(b, thread);
    if (!b->imitates)
        return x;
    struct activations seen = {b->seen, (size_t)n};
    struct quantised q = linear_room(b, n, t.begin);
    b->int8->quantise(&q, x.x, x.ld, n, t.begin, t.end);
    for (int row = t.begin; row < t.end; row++) {
        const int8_t *from = q.q + (size_t)row * (size_t)q.ld;
        float *to = seen.x + (size_t)row * seen.ld;
        for (int i = 0; i < n; i++)
            to[i] = (float)from[i] * q.scale[row];
    }
    return seen;
}

void linear_backward(struct backward *b, int thread,
                     const struct linear *linear, struct activations dx,
                     struct activations dy, struct activations x,
                     bool accumulate)
{
    struct activations seen = see(b, thread, x, linear->cols);
    struct range t = rows_of(b, thread);
    struct range rows = share_of(b, linear->rows, thread);
    struct product by_x = {
        .c = dx.x,
        .ld_c = dx.ld,
        .a = dy.x,
        .a_i = dy.ld,
        .a_k = 1,
        .b = linear->value,
        .ld_b = (size_t)linear->cols,
        .n_j = linear->cols,
        .n_k = linear->rows,
        .accumulate = accumulate,
    };
    struct product by_w = {
        .c = b->gradient + linear->parameter->offset,
        .ld_c = (size_t)linear->cols,
        .a = dy.x,
        .a_i = 1,
        .a_k = dy.ld,
        .b = seen.x,
        .ld_b = seen.ld,
        .n_j = linear->cols,
        .n_k = b->n_rows,
        .accumulate = true,
    };
    b->kernels->product(&by_x, t.begin, t.end);
    meet(b);
    b->kernels->product(&by_w, rows.begin, rows.end);
    meet(b);
}

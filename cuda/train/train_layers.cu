/* train_layers.cu -- a step of one GPU: backward.c says what it computes.
 *
 * Everything is enqueued; nothing waits.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/trainer.cuh"

/* ---- arrays as products take them ---------------------------------------- */

static struct numbers rows_of(void *x, int ld)
{
    return {x, ld};
}

/* ---- forward ------------------------------------------------------------- */

static void prepare(struct replica *r)
{
    int n_layer = r->config.n_layer;
    for (int l = 0; l < n_layer; l++) {
        launch_prepare_weights(r, r->tapes[l].weights, N_WEIGHTS);
        launch_prepare_a(r, &r->tapes[l], l);
    }
    launch_prepare_weights(r, &r->tapes[n_layer].weights[W_IN], 1);
    mark(r, PHASE_PREPARE);
}

/* From h on; again: without what the next layer alone needs. */
static void run_layer(struct replica *r, int l, bool again)
{
    struct train_tape *tape = &r->tapes[l];
    const struct train_weight *w = tape->weights;
    struct products *p = r->products;
    int d_model = r->config.d_model, d_inner = r->config.d_inner;
    int n = r->n_rows;

    /* u | z = in_proj norm(h) */
    launch_norm(r, l, again);
    mark(r, PHASE_NORM);
    product_forward(p, &w[W_IN], rows_of(tape->x, d_model),
                    rows_of(tape->uz, 2 * d_inner), false, n);
    mark(r, PHASE_PRODUCTS);

    /* u = silu(conv(u)) */
    launch_conv(r, l);
    mark(r, PHASE_CONV);

    /* dt | B | C = x_proj u;  v = dt_proj dt */
    product_forward(p, &w[W_X], rows_of(tape->u_q, d_inner),
                    rows_of(r->dtbc, r->ld_dtbc), true, n);
    mark(r, PHASE_PRODUCTS);
    launch_split_dtbc(r, tape);
    mark(r, PHASE_DTBC);
    product_forward(p, &w[W_DT], rows_of(tape->dt, r->ld_dt),
                    rows_of(tape->v, d_inner), false, n);
    mark(r, PHASE_PRODUCTS);

    cudaMemsetAsync(r->amax, 0, n * sizeof *r->amax, r->stream);
    launch_train_scan(r, l);
    mark(r, PHASE_SCAN);
    launch_quantise_y(r, tape);
    mark(r, PHASE_QUANTISE);

    /* h = h + out_proj y, in the norm of the next layer */
    if (!again)
        product_forward(p, &w[W_OUT], rows_of(tape->y, d_inner),
                        rows_of(r->o, d_model), false, n);
    mark(r, PHASE_PRODUCTS);
}

/* ---- backward ------------------------------------------------------------ */

static float *gradient_of(const struct replica *r, const struct train_weight *w)
{
    return r->gradient + w->offset;
}

static void run_layer_backward(struct replica *r, int l)
{
    struct train_tape *tape = &r->tapes[l];
    const struct train_weight *w = tape->weights;
    struct products *p = r->products;
    int d_model = r->config.d_model, d_inner = r->config.d_inner;
    int n = r->n_rows;
    struct numbers do_ = rows_of(r->dho, d_model), dv = rows_of(r->dv, d_inner);
    struct numbers ddtbc = rows_of(r->ddtbc, r->ld_ddtbc);
    struct numbers duz = rows_of(r->duz, 2 * d_inner);

    product_backward(p, &w[W_OUT], do_, rows_of(r->dy, d_inner), false, n);
    product_gradient(p, &w[W_OUT], do_, rows_of(tape->y, d_inner),
                     gradient_of(r, &w[W_OUT]), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_train_scan_backward(r, l);
    mark(r, PHASE_SCAN_BACK);

    product_backward(p, &w[W_DT], dv, rows_of(r->ddt, r->ld_dt), true, n);
    product_gradient(p, &w[W_DT], dv, rows_of(tape->dt, r->ld_dt),
                     gradient_of(r, &w[W_DT]), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_join_dtbc(r, tape);
    mark(r, PHASE_DTBC_BACK);
    product_backward(p, &w[W_X], ddtbc, rows_of(r->du_x, d_inner), false, n);
    product_gradient(p, &w[W_X], ddtbc, rows_of(tape->u_q, d_inner),
                     gradient_of(r, &w[W_X]), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_conv_backward(r, l);
    mark(r, PHASE_CONV_BACK);

    product_backward(p, &w[W_IN], duz, rows_of(r->dx, d_model), false, n);
    product_gradient(p, &w[W_IN], duz, rows_of(tape->x, d_model),
                     gradient_of(r, &w[W_IN]), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_norm_backward(r, l);
    mark(r, PHASE_NORM_BACK);
}

/* The prediction, its loss and its gradient, some rows at a time. */
static void run_head(struct replica *r)
{
    int l = r->config.n_layer, d_model = r->config.d_model;
    const struct train_tape *head = &r->tapes[l];
    const struct train_weight *w = &head->weights[W_IN];
    struct products *p = r->products;
    size_t size = number_size(r);
    struct numbers dlogits = rows_of(r->dlogits, N_BYTES_VOCAB);
    launch_norm(r, l, false);
    for (int first = 0; first < r->n_rows; first += HEAD_ROWS) {
        int n = r->n_rows - first;
        n = n < HEAD_ROWS ? n : HEAD_ROWS;
        size_t at = (size_t)first * d_model * size;
        struct numbers x = rows_of((char *)head->x + at, d_model);
        struct numbers dx = rows_of((char *)r->dx + at, d_model);
        product_forward(p, w, x, rows_of(r->logits, N_BYTES_VOCAB), true, n);
        launch_cross_entropy(r, first, n);
        product_backward(p, w, dlogits, dx, false, n);
        product_gradient(p, w, dlogits, x, gradient_of(r, w), first > 0, n);
    }
    launch_loss(r);
    launch_norm_backward(r, l);
    mark(r, PHASE_HEAD);
}

/* ---- a step -------------------------------------------------------------- */

void replica_gradient(struct replica *r)
{
    int n_layer = r->config.n_layer;
    prepare(r);
    for (int l = 0; l < n_layer; l++)
        run_layer(r, l, false);
    run_head(r);
    for (int l = n_layer - 1; l >= 0; l--) {
        if (r->recomputes && l < n_layer - 1)
            run_layer(r, l, true);
        run_layer_backward(r, l);
    }
    launch_embed_backward(r);
    mark(r, PHASE_EMBEDDING);
    float *states = r->states;
    r->states = r->after;
    r->after = states;
}

void replica_update(struct replica *r, const struct update *update)
{
    launch_adamw(r, update);
    mark(r, PHASE_ADAMW);
    run_muon(r, update);
    mark(r, PHASE_MUON);
}

/* train_layers.cu -- a step of one GPU: backward.c says what it computes.
 *
 * Everything is enqueued; nothing waits.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_layers.cuh"

#include "cuda/train/mixer.cuh"
#include "cuda/train/products.cuh"
#include "cuda/train/stopwatch.cuh"
#include "cuda/train/train_loss.cuh"
#include "cuda/train/train_norm.cuh"
#include "cuda/train/train_rows.cuh"

/* ---- arrays as products take them ---------------------------------------- */

static struct number_rows rows_of(void *x, int ld)
{
    return {x, ld};
}

/* ---- forward ------------------------------------------------------------- */

static void prepare(struct replica *r)
{
    int n_layer = r->config.n_layer;
    for (int l = 0; l < n_layer; l++) {
        launch_prepare_weights(r, r->tapes[l].weights, r->mixer->n_weights);
        r->mixer->prepare(r, l);
    }
    launch_prepare_weights(r, &r->tapes[n_layer].weights[W_IN], 1);
    mark(r, PHASE_PREPARE);
}

/* From h on; again: without what the next layer alone needs. */
static void run_layer(struct replica *r, int l, bool again)
{
    struct train_tape *tape = &r->tapes[l];
    const struct train_weight *in = &tape->weights[W_IN];
    int d_model = r->config.d_model, d_inner = r->config.d_inner;

    launch_norm(r, l, again);
    mark(r, PHASE_NORM);
    product_forward(r->products, in, rows_of(tape->x, d_model),
                    rows_of(tape->projected, projected_ld(r)), false,
                    r->n_rows);
    mark(r, PHASE_PRODUCTS);
    r->mixer->forward(r, l);

    /* h = h + out_proj y, in the norm of the next layer */
    if (!again)
        product_forward(r->products, &tape->weights[W_OUT],
                        rows_of(tape->y, d_inner), rows_of(r->o, d_model),
                        false, r->n_rows);
    mark(r, PHASE_PRODUCTS);
}

/* ---- backward ------------------------------------------------------------ */

static void run_layer_backward(struct replica *r, int l)
{
    struct train_tape *tape = &r->tapes[l];
    const struct train_weight *in = &tape->weights[W_IN];
    const struct train_weight *out = &tape->weights[W_OUT];
    struct products *p = r->products;
    int d_model = r->config.d_model, d_inner = r->config.d_inner;
    int n = r->n_rows;
    struct number_rows do_ = rows_of(r->dh, d_model);
    struct number_rows dprojected = rows_of(r->dprojected, projected_ld(r));

    product_backward(p, out, do_, rows_of(r->dy, d_inner), false, n);
    product_gradient(p, out, do_, rows_of(tape->y, d_inner),
                     gradient_of(r, out), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    r->mixer->backward(r, l);

    product_backward(p, in, dprojected, rows_of(r->dx, d_model), false, n);
    product_gradient(p, in, dprojected, rows_of(tape->x, d_model),
                     gradient_of(r, in), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_norm_backward(r, l);
    mark(r, PHASE_NORM_BACK);
}

/* How many rows from first on run_head and run_embedding_backward take. */
static int rows_from(const struct replica *r, int first)
{
    int n = r->n_rows - first;
    return n < HEAD_ROWS ? n : HEAD_ROWS;
}

static struct number_rows some_rows(const struct replica *r, void *x, int first)
{
    int d_model = r->config.d_model;
    size_t at = (size_t)first * d_model * number_size(r);
    return rows_of((char *)x + at, d_model);
}

/* The prediction, its loss and its gradient, some rows at a time. */
static void run_head(struct replica *r)
{
    int l = r->config.n_layer;
    const struct train_tape *head = &r->tapes[l];
    const struct train_weight *w = &head->weights[W_IN];
    struct products *p = r->products;
    struct number_rows dlogits = rows_of(r->dlogits, N_BYTES_VOCAB);
    launch_norm(r, l, false);
    for (int first = 0; first < r->n_rows; first += HEAD_ROWS) {
        int n = rows_from(r, first);
        struct number_rows x = some_rows(r, head->x, first);
        struct number_rows dx = some_rows(r, r->dx, first);
        product_forward(p, w, x, rows_of(r->logits, N_BYTES_VOCAB), true, n);
        launch_cross_entropy(r, first, n);
        product_backward(p, w, dlogits, dx, false, n);
        product_gradient(p, w, dlogits, x, gradient_of(r, w), first > 0, n);
    }
    launch_loss(r);
    launch_norm_backward(r, l);
    mark(r, PHASE_HEAD);
}

/* The rows of dh of each byte are added up: a product with rows that are 1 at
 * their byte.  Where lm_head is tied, its part of the gradient is there
 * already.
 */
static void run_embedding_backward(struct replica *r)
{
    const struct parameter *p = parameters_embedding(r->parameters);
    const struct train_weight table = {N_BYTES_VOCAB,
                                       r->config.d_model,
                                       r->config.d_model,
                                       p->offset,
                                       NULL,
                                       NULL,
                                       NULL};
    for (int first = 0; first < r->n_rows; first += HEAD_ROWS) {
        int n = rows_from(r, first);
        launch_one_hot(r, first, n);
        product_gradient(r->products, &table,
                         rows_of(r->dlogits, N_BYTES_VOCAB),
                         some_rows(r, r->dh, first), gradient_of(r, &table),
                         first > 0 || r->config.is_tied, n);
    }
    mark(r, PHASE_EMBEDDING);
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
    run_embedding_backward(r);
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

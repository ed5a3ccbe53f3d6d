/* train_mamba1.cu -- the mixer of Mamba-1: its memory, and its launches in
 * order.  backward.c says what it computes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_mamba1.cuh"

#include "cuda/train/products.cuh"
#include "cuda/train/stopwatch.cuh"
#include "cuda/train/train_conv.cuh"
#include "cuda/train/train_memory.cuh"
#include "cuda/train/train_rows.cuh"

/* ---- opening ------------------------------------------------------------- */

static void mamba1_close(struct replica *r)
{
    if (r->mamba1)
        free(r->mamba1->tapes);
    free(r->mamba1);
    r->mamba1 = NULL;
}

static enum status mamba1_open(struct replica *r)
{
    const struct model_config *c = &r->config;
    struct mamba1 *m = (struct mamba1 *)calloc(1, sizeof *m);
    r->mamba1 = m;
    if (m)
        m->tapes = (struct mamba1_tape *)calloc(c->n_layer, sizeof *m->tapes);
    if (!m || !m->tapes)
        return fail_memory("training");
    m->n_tiles = ceil_div(r->n_t, TILE);
    m->ld_dtbc = round_up(c->dt_rank + 2 * c->d_state, 4);
    m->ld_dt = round_up(c->dt_rank, 8);
    m->ld_ddtbc = round_up(c->dt_rank + 2 * c->d_state, 8);
    m->scan_blocks = ceil_div(
        c->d_inner, SCAN_THREADS * scan_states(c->d_state) / c->d_state);
    return OK;
}

static enum status mamba1_prepare_device(const struct replica *r)
{
    (void)r;
    return scan_prepare_device();
}

/* ---- memory -------------------------------------------------------------- */

/* What is needed when a layer is computed again. */
static void carve_activations(const struct replica *r, struct carver *carver,
                              struct mamba1_tape *tape)
{
    const struct model_config *c = &r->config;
    const struct mamba1 *m = r->mamba1;
    size_t d_inner = c->d_inner, n = r->n_rows;
    tape->u = carve_numbers(r, carver, d_inner);
    tape->u_q = r->imitates ? carve_numbers(r, carver, d_inner) : tape->u;
    tape->u_scale = carve_scale(r, carver);
    tape->bc = carve_floats(carver, n, 2 * (size_t)c->d_state);
    tape->dt = carve_numbers(r, carver, m->ld_dt);
    tape->dt_scale = carve_scale(r, carver);
    tape->v = carve_numbers(r, carver, d_inner);
    tape->states =
        carve(carver, (size_t)r->n_windows * m->n_tiles * (TILE / KEPT),
              d_inner * c->d_state * number_size(r));
}

static void mamba1_carve_layer(struct replica *r, struct carver *carver, int l)
{
    struct mamba1_tape *tape = &r->mamba1->tapes[l];
    if (l > 0 && r->recomputes)
        *tape = r->mamba1->tapes[0];
    else
        carve_activations(r, carver, tape);
    tape->a_log2e = carve_floats(carver, r->config.d_inner, r->config.d_state);
}

static void mamba1_carve_scratch(struct replica *r, struct carver *carver)
{
    struct mamba1 *m = r->mamba1;
    size_t n = r->n_rows, d_inner = r->config.d_inner;
    size_t n_bc = 2 * (size_t)r->config.d_state;
    m->dtbc = carve_floats(carver, n, m->ld_dtbc);
    m->dv = carve_numbers(r, carver, d_inner);
    m->du = carve_numbers(r, carver, d_inner);
    m->du_x = carve_numbers(r, carver, d_inner);
    m->ddt = carve_floats(carver, n, m->ld_dt);
    m->ddtbc = carve_numbers(r, carver, m->ld_ddtbc);
    m->dbc = carve_floats(carver, n, m->scan_blocks * n_bc);
}

static size_t mamba1_partial_floats(const struct replica *r)
{
    const struct model_config *c = &r->config;
    size_t d_inner = c->d_inner, n = r->n_windows;
    size_t conv = conv_partial_floats(r, c->d_inner);
    size_t scan = n * d_inner * (c->d_state + 2);
    return conv > scan ? conv : scan;
}

static int mamba1_longest_scale(const struct replica *r)
{
    int d_inner = r->config.d_inner, ld_dtbc = r->mamba1->ld_dtbc;
    return d_inner > ld_dtbc ? d_inner : ld_dtbc;
}

/* ---- a step -------------------------------------------------------------- */

static struct number_rows rows_of(void *x, int ld)
{
    return {x, ld};
}

static void mamba1_prepare(struct replica *r, int l)
{
    launch_prepare_a(r, l);
}

static void mamba1_forward(struct replica *r, int l)
{
    struct train_tape *tape = &r->tapes[l];
    struct mamba1 *m = r->mamba1;
    struct mamba1_tape *own = &m->tapes[l];
    const struct train_weight *w = tape->weights;
    struct products *p = r->products;
    int d_inner = r->config.d_inner, n = r->n_rows;

    /* u = silu(conv(u)) */
    launch_conv(r, l);
    mark(r, PHASE_CONV);

    /* dt | B | C = x_proj u;  v = dt_proj dt */
    product_forward(p, &w[W_X], rows_of(own->u_q, d_inner),
                    rows_of(m->dtbc, m->ld_dtbc), true, n);
    mark(r, PHASE_PRODUCTS);
    launch_split_dtbc(r, l);
    mark(r, PHASE_DTBC);
    product_forward(p, &w[W_DT], rows_of(own->dt, m->ld_dt),
                    rows_of(own->v, d_inner), false, n);
    mark(r, PHASE_PRODUCTS);

    cudaMemsetAsync(r->amax, 0, n * sizeof *r->amax, r->stream);
    launch_train_scan(r, l);
    mark(r, PHASE_SCAN);
    launch_quantise_rows(r, tape->y, tape->y_scale, d_inner);
    mark(r, PHASE_QUANTISE);
}

static void mamba1_backward(struct replica *r, int l)
{
    struct mamba1 *m = r->mamba1;
    struct mamba1_tape *own = &m->tapes[l];
    const struct train_weight *w = r->tapes[l].weights;
    struct products *p = r->products;
    int d_inner = r->config.d_inner, n = r->n_rows;
    struct number_rows dv = rows_of(m->dv, d_inner);
    struct number_rows ddtbc = rows_of(m->ddtbc, m->ld_ddtbc);

    launch_train_scan_backward(r, l);
    mark(r, PHASE_SCAN_BACK);

    product_backward(p, &w[W_DT], dv, rows_of(m->ddt, m->ld_dt), true, n);
    product_gradient(p, &w[W_DT], dv, rows_of(own->dt, m->ld_dt),
                     gradient_of(r, &w[W_DT]), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_join_dtbc(r, l);
    mark(r, PHASE_DTBC_BACK);
    product_backward(p, &w[W_X], ddtbc, rows_of(m->du_x, d_inner), false, n);
    product_gradient(p, &w[W_X], ddtbc, rows_of(own->u_q, d_inner),
                     gradient_of(r, &w[W_X]), false, n);
    mark(r, PHASE_PRODUCTS_BACK);
    launch_conv_backward(r, l);
    mark(r, PHASE_CONV_BACK);
}

static const enum place mamba1_places[N_MAMBA1_WEIGHTS] = {
    P_IN_PROJ, P_OUT_PROJ, P_X_PROJ, P_DT_PROJ};

static_assert((int)N_MAMBA1_WEIGHTS <= (int)WEIGHTS_MAX, "room for weights");

/* In the order of struct mixer_ops. */
const struct mixer_ops mamba1_mixer = {
    N_MAMBA1_WEIGHTS,     mamba1_places,         mamba1_open,
    mamba1_close,         mamba1_prepare_device, mamba1_carve_layer,
    mamba1_carve_scratch, mamba1_partial_floats, mamba1_longest_scale,
    mamba1_prepare,       mamba1_forward,        mamba1_backward,
};

/* train_memory.cu -- what a GPU keeps of a step, and where.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_memory.cuh"

#include "cuda/train/mixer.cuh"
#include "cuda/train/train_loss.cuh"
#include "cuda/train/train_norm.cuh"
#include "cuda/train/train_rows.cuh"

void *carve_numbers(const struct replica *r, struct carver *carver, size_t cols)
{
    return carve(carver, r->n_rows * cols, number_size(r));
}

static void carve_weight(const struct replica *r, struct carver *carver,
                         struct train_weight *w,
                         const struct parameter *parameter)
{
    w->rows = parameter->shape[0];
    w->cols = parameter->shape[1];
    w->ld = round_up(w->cols, 8);
    w->offset = parameter->offset;
    w->q = carve(carver, (size_t)w->rows * w->ld, number_size(r));
    w->seen = w->q;
    w->scale = r->ones;
    if (!r->imitates)
        return;
    w->seen = carve(carver, (size_t)w->rows * w->ld, number_size(r));
    w->scale = carve_floats(carver, w->rows, 1);
}

struct row_scale carve_scale(const struct replica *r, struct carver *carver)
{
    struct row_scale s = {r->ones, r->ones};
    if (r->imitates) {
        s.scale = carve_floats(carver, r->n_rows, 1);
        s.inverse = carve_floats(carver, r->n_rows, 1);
    }
    return s;
}

/* What layers share when they are computed twice, but for the mixer's part. */
static void carve_activations(const struct replica *r, struct carver *carver,
                              struct train_tape *tape)
{
    const struct model_config *c = &r->config;
    tape->mean = carve_floats(carver, r->n_rows, 1);
    tape->r = carve_floats(carver, r->n_rows, 1);
    tape->x = carve_numbers(r, carver, c->d_model);
    tape->x_scale = carve_scale(r, carver);
    tape->projected = carve_numbers(r, carver, projected_ld(r));
    tape->y = carve_numbers(r, carver, c->d_inner);
}

static void carve_tape(struct replica *r, struct carver *carver, int l)
{
    struct train_tape *tape = &r->tapes[l];
    if (l > 0 && r->recomputes)
        *tape = r->tapes[0];
    else
        carve_activations(r, carver, tape);
    for (int i = 0; i < r->mixer->n_weights; i++)
        carve_weight(r, carver, &tape->weights[i],
                     parameters_at(r->parameters, l, r->mixer->places[i]));
    tape->h = carve_floats(carver, r->n_rows, r->config.d_model);
    tape->y_scale = carve_scale(r, carver);
    r->mixer->carve_layer(r, carver, l);
}

static void carve_head(const struct replica *r, struct carver *carver)
{
    struct train_tape *head = &r->tapes[r->config.n_layer];
    size_t d_model = r->config.d_model;
    carve_weight(r, carver, &head->weights[W_IN],
                 parameters_lm_head(r->parameters));
    head->h = carve_floats(carver, r->n_rows, d_model);
    head->mean = carve_floats(carver, r->n_rows, 1);
    head->r = carve_floats(carver, r->n_rows, 1);
    head->x = carve_numbers(r, carver, d_model);
    head->x_scale = carve_scale(r, carver);
}

/* The most floats that any kernel leaves for a sum of blocks. */
static size_t partial_floats(const struct replica *r)
{
    size_t d_model = r->config.d_model;
    size_t needs[] = {
        2 * d_model * NORM_BLOCKS,
        r->mixer->partial_floats(r),
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static void carve_scratch(struct replica *r, struct carver *carver)
{
    const struct model_config *c = &r->config;
    size_t n = r->n_rows, start = carver->n_bytes;
    r->muon_room = carver->base ? carver->base + start : NULL;
    r->o = carve_numbers(r, carver, c->d_model);
    r->amax = (uint32_t *)carve(carver, n, sizeof *r->amax);
    r->loss = carve_floats(carver, n, 1);
    r->dh = carve_numbers(r, carver, c->d_model);
    r->dx = carve_numbers(r, carver, c->d_model);
    r->dy = carve_numbers(r, carver, c->d_inner);
    r->dprojected = carve_numbers(r, carver, projected_ld(r));
    r->logits = carve_floats(carver, HEAD_ROWS, N_BYTES_VOCAB);
    r->dlogits = carve(carver, HEAD_ROWS * N_BYTES_VOCAB, number_size(r));
    r->partial = carve_floats(carver, partial_floats(r), 1);
    r->mixer->carve_scratch(r, carver);
    size_t least = muon_least_bytes(r);
    r->muon_bytes = carver->n_bytes - start;
    if (r->muon_bytes < least) {
        carve(carver, least - r->muon_bytes, 1);
        r->muon_bytes = least;
    }
}

static int longest_scale(const struct replica *r)
{
    int n = in_proj_rows(&r->config), own = r->mixer->longest_scale(r);
    n = n > N_BYTES_VOCAB ? n : N_BYTES_VOCAB;
    n = n > r->config.d_model ? n : r->config.d_model;
    n = n > own ? n : own;
    return n > r->n_rows ? n : r->n_rows;
}

/* Sets n_bytes; with a base also all the arrays. */
static void lay_out(struct replica *r, void *base)
{
    struct carver carver = {(char *)base, 0};
    size_t n = r->parameters->n_floats;
    size_t n_states = r->n_windows * trainer_state_floats(&r->config);
    r->weights = carve_floats(&carver, n, 1);
    r->moment_1 = carve_floats(&carver, n, 1);
    r->moment_2 = carve_floats(&carver, n, 1);
    r->gradient = carve_floats(&carver, n + 1, 1);
    r->states = carve_floats(&carver, n_states, 1);
    r->after = carve_floats(&carver, n_states, 1);
    r->bytes = (uint8_t *)carve(&carver, r->n_windows, r->n_t + 1);
    r->sums = (double *)carve(&carver, NORM_PARTS + 1, sizeof *r->sums);
    r->ones = carve_floats(&carver, longest_scale(r), 1);
    adamw_carve(&r->adamw, &carver);
    muon_carve(&r->muon, &carver);
    for (int l = 0; l < r->config.n_layer; l++)
        carve_tape(r, &carver, l);
    carve_head(r, &carver);
    carve_scratch(r, &carver);
    r->n_bytes = carver.n_bytes;
}

/* ---- allocation ---------------------------------------------------------- */

/* Windows that would fit when layers are computed twice. */
static int windows_that_fit(const struct replica *r, size_t room)
{
    struct replica smaller = *r;
    int n = r->n_windows;
    smaller.recomputes = true;
    do {
        replica_set_windows(&smaller, 0, --n);
        if (n > 0)
            lay_out(&smaller, NULL);
    } while (n > 0 && smaller.n_bytes > room);
    return n;
}

static enum status fail_room(const struct replica *r, size_t room)
{
    int n = windows_that_fit(r, room);
    if (n > 0)
        return fail(E_MEMORY,
                    "the GPU has room for %d windows of %d bytes, not for %d: "
                    "%zu MB are free, %zu MB needed",
                    n, r->n_t, r->n_windows, room >> 20, r->n_bytes >> 20);
    return fail(E_MEMORY,
                "the GPU has no room for a window of %d bytes: %zu MB are "
                "free; shorter windows or a smaller model need less",
                r->n_t, room >> 20);
}

enum status replica_allocate(struct replica *r)
{
    size_t room, total;
    adamw_count(&r->adamw, r->parameters);
    muon_count(&r->muon, r->parameters);
    CUDA_TRY(cudaMemGetInfo(&room, &total), "asking for free memory");
    room -= room / 32;
    lay_out(r, NULL);
    if (r->n_bytes > room) {
        r->recomputes = true;
        lay_out(r, NULL);
    }
    if (r->n_bytes > room)
        return fail_room(r, room);
    CUDA_TRY(cudaMalloc(&r->arena, r->n_bytes), "the weights and a step");
    return OK;
}

enum status replica_fill(struct replica *r)
{
    CUDA_TRY(cudaMemsetAsync(r->arena, 0, r->n_bytes, r->stream),
             "clearing memory");
    lay_out(r, r->arena);
    launch_fill(r, r->ones, longest_scale(r), 1.0f);
    TRY(adamw_fill(r));
    return muon_fill(r);
}

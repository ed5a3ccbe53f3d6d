/* train_memory.cu -- what a GPU keeps of a step, and where.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/trainer.cuh"

/* Room taken one after the other; without a base, only counted. */
struct carver {
    char *base;
    size_t n_bytes;
};

static void *carve(struct carver *carver, size_t n, size_t size)
{
    void *room = carver->base ? carver->base + carver->n_bytes : NULL;
    carver->n_bytes += arena_align(n * size);
    return room;
}

static float *carve_floats(struct carver *carver, size_t rows, size_t cols)
{
    return (float *)carve(carver, rows * cols, sizeof(float));
}

static void *carve_numbers(const struct replica *r, struct carver *carver,
                           size_t cols)
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

static struct row_scale carve_scale(const struct replica *r,
                                    struct carver *carver)
{
    struct row_scale s = {r->ones, r->ones};
    if (r->imitates) {
        s.scale = carve_floats(carver, r->n_rows, 1);
        s.inverse = carve_floats(carver, r->n_rows, 1);
    }
    return s;
}

/* What is needed when a layer is computed again. */
static void carve_activations(const struct replica *r, struct carver *carver,
                              struct train_tape *tape)
{
    const struct model_config *c = &r->config;
    size_t d_inner = c->d_inner, n = r->n_rows;
    tape->mean = carve_floats(carver, n, 1);
    tape->r = carve_floats(carver, n, 1);
    tape->x = carve_numbers(r, carver, c->d_model);
    tape->x_scale = carve_scale(r, carver);
    tape->uz = carve_numbers(r, carver, 2 * d_inner);
    tape->u = carve_numbers(r, carver, d_inner);
    tape->u_q = r->imitates ? carve_numbers(r, carver, d_inner) : tape->u;
    tape->u_scale = carve_scale(r, carver);
    tape->bc = carve_floats(carver, n, 2 * (size_t)c->d_state);
    tape->dt = carve_numbers(r, carver, r->ld_dt);
    tape->dt_scale = carve_scale(r, carver);
    tape->v = carve_numbers(r, carver, d_inner);
    tape->y = carve_numbers(r, carver, d_inner);
    tape->states =
        carve(carver, (size_t)r->n_windows * r->n_tiles * (TILE / KEPT),
              d_inner * c->d_state * number_size(r));
}

static void carve_tape(const struct replica *r, struct carver *carver, int l)
{
    static const enum place places[N_WEIGHTS] = {P_IN_PROJ, P_X_PROJ, P_DT_PROJ,
                                                 P_OUT_PROJ};
    const struct model_config *c = &r->config;
    struct train_tape *tape = &r->tapes[l];
    if (l > 0 && r->recomputes)
        *tape = r->tapes[0];
    else
        carve_activations(r, carver, tape);
    for (int i = 0; i < N_WEIGHTS; i++)
        carve_weight(r, carver, &tape->weights[i],
                     parameters_at(r->parameters, l, places[i]));
    tape->a_log2e = carve_floats(carver, c->d_inner, c->d_state);
    tape->h = carve_floats(carver, r->n_rows, c->d_model);
    tape->y_scale = carve_scale(r, carver);
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
    const struct model_config *c = &r->config;
    size_t d_model = c->d_model, d_inner = c->d_inner, n = r->n_windows;
    size_t spans = n * ceil_div(r->n_t, CONV_SPAN);
    size_t needs[] = {
        2 * d_model * NORM_BLOCKS,
        spans * (c->d_conv + 1) * d_inner,
        ceil_div(r->n_rows, EMBED_SPAN) * N_BYTES_VOCAB * d_model,
        n * d_inner * (c->d_state + 2),
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static void carve_scratch(struct replica *r, struct carver *carver)
{
    const struct model_config *c = &r->config;
    size_t n = r->n_rows, begin = carver->n_bytes, least = 0;
    r->muon_room = carver->base ? carver->base + begin : NULL;
    r->o = carve_numbers(r, carver, c->d_model);
    r->amax = (uint32_t *)carve(carver, n, sizeof *r->amax);
    r->dtbc = carve_floats(carver, n, r->ld_dtbc);
    r->dh = carve_floats(carver, n, c->d_model);
    r->loss = carve_floats(carver, n, 1);
    r->dho = carve_numbers(r, carver, c->d_model);
    r->dx = carve_numbers(r, carver, c->d_model);
    r->dy = carve_numbers(r, carver, c->d_inner);
    r->dv = carve_numbers(r, carver, c->d_inner);
    r->du = carve_numbers(r, carver, c->d_inner);
    r->du_x = carve_numbers(r, carver, c->d_inner);
    r->duz = carve_numbers(r, carver, 2 * (size_t)c->d_inner);
    r->ddt = carve_floats(carver, n, r->ld_dt);
    r->ddtbc = carve_numbers(r, carver, r->ld_ddtbc);
    r->dbc = carve_floats(carver, n, (size_t)r->scan_blocks * 2 * c->d_state);
    r->logits = carve_floats(carver, HEAD_ROWS, N_BYTES_VOCAB);
    r->dlogits = carve(carver, HEAD_ROWS * N_BYTES_VOCAB, number_size(r));
    r->partial = carve_floats(carver, partial_floats(r), 1);
    for (int g = 0; g < r->n_groups; g++) {
        size_t room = muon_bytes(r, &r->groups[g]);
        least = room > least ? room : least;
    }
    r->muon_bytes = carver->n_bytes - begin;
    if (r->muon_bytes < least) {
        carve(carver, least - r->muon_bytes, 1);
        r->muon_bytes = least;
    }
}

static int longest_scale(const struct replica *r)
{
    int n = 2 * r->config.d_inner;
    n = n > N_BYTES_VOCAB ? n : N_BYTES_VOCAB;
    n = n > r->config.d_model ? n : r->config.d_model;
    n = n > r->ld_dtbc ? n : r->ld_dtbc;
    return n > r->n_rows ? n : r->n_rows;
}

/* The table of AdamW and those of Muon: counted, and filled by fill_tables. */
static void carve_tables(struct replica *r, struct carver *carver)
{
    r->chunks = (const struct table_chunk *)carve(carver, r->n_chunks,
                                                  sizeof *r->chunks);
    for (int g = 0; g < r->n_groups; g++)
        r->groups[g].offsets = (const unsigned long long *)carve(
            carver, r->groups[g].n, sizeof *r->groups[g].offsets);
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
    carve_tables(r, &carver);
    for (int l = 0; l < r->config.n_layer; l++)
        carve_tape(r, &carver, l);
    carve_head(r, &carver);
    carve_scratch(r, &carver);
    r->n_bytes = carver.n_bytes;
}

/* ---- tables of the optimisers -------------------------------------------- */

static int chunks_of(const struct parameter *p)
{
    size_t n = (p->n + TABLE_CHUNK - 1) / TABLE_CHUNK;
    return p->muon_parts > 0 ? 0 : (int)n;
}

static void count_tables(struct replica *r)
{
    for (size_t i = 0; i < r->parameters->n; i++) {
        const struct parameter *p = &r->parameters->list[i];
        r->n_chunks += chunks_of(p);
        if (p->muon_parts == 0)
            continue;
        int rows = p->shape[0] / p->muon_parts, cols = p->shape[1], g = 0;
        while (g < r->n_groups &&
               (r->groups[g].rows != rows || r->groups[g].cols != cols))
            g++;
        r->n_groups = g < r->n_groups ? r->n_groups : g + 1;
        r->groups[g].rows = rows;
        r->groups[g].cols = cols;
        r->groups[g].n += p->muon_parts;
    }
}

static enum status send(const struct replica *r, const void *to,
                        const void *from, size_t n)
{
    CUDA_TRY(
        cudaMemcpyAsync((void *)to, from, n, cudaMemcpyHostToDevice, r->stream),
        "sending tables");
    CUDA_TRY(cudaStreamSynchronize(r->stream), "sending tables");
    return OK;
}

static enum status fill_chunks(const struct replica *r)
{
    struct table_chunk *chunks =
        (struct table_chunk *)calloc(r->n_chunks + 1, sizeof *chunks);
    if (!chunks)
        return fail_memory("the tables of the optimiser");
    struct table_chunk *to = chunks;
    for (size_t i = 0; i < r->parameters->n; i++) {
        const struct parameter *p = &r->parameters->list[i];
        for (int k = 0; k < chunks_of(p); k++) {
            size_t at = (size_t)k * TABLE_CHUNK, left = p->n - at;
            to->begin = p->offset + at;
            to->n = left < TABLE_CHUNK ? (int)left : TABLE_CHUNK;
            to->decays = p->decays ? 1.0f : 0.0f;
            to++;
        }
    }
    enum status status =
        send(r, r->chunks, chunks, r->n_chunks * sizeof *chunks);
    free(chunks);
    return status;
}

static enum status fill_group(const struct replica *r,
                              const struct muon_group *group)
{
    unsigned long long *offsets =
        (unsigned long long *)calloc(group->n, sizeof *offsets);
    if (!offsets)
        return fail_memory("the tables of the optimiser");
    int n = 0;
    for (size_t i = 0; i < r->parameters->n; i++) {
        const struct parameter *p = &r->parameters->list[i];
        if (p->muon_parts == 0 || p->shape[0] / p->muon_parts != group->rows ||
            p->shape[1] != group->cols)
            continue;
        for (int k = 0; k < p->muon_parts; k++)
            offsets[n++] =
                p->offset + (size_t)k * group->rows * (size_t)group->cols;
    }
    enum status status =
        send(r, group->offsets, offsets, group->n * sizeof *offsets);
    free(offsets);
    return status;
}

/* ---- the whole ----------------------------------------------------------- */

void replica_set_windows(struct replica *r, int first, int n)
{
    r->first_window = first;
    r->n_windows = n;
    r->n_rows = n * r->n_t;
}

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
    count_tables(r);
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
    TRY(fill_chunks(r));
    for (int g = 0; g < r->n_groups; g++)
        TRY(fill_group(r, &r->groups[g]));
    return OK;
}

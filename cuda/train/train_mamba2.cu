/* train_mamba2.cu -- the mixer of Mamba-2: its memory, and its launches in
 * order.  mamba2_chunk.cuh says what the state-space product computes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_mamba2.cuh"

#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/mamba2_conv.cuh"
#include "cuda/train/mamba2_decay.cuh"
#include "cuda/train/mamba2_gate.cuh"
#include "cuda/train/stopwatch.cuh"
#include "cuda/train/train_memory.cuh"
#include "cuda/train/train_rows.cuh"

/* ---- opening ------------------------------------------------------------- */

static void mamba2_close(struct replica *r)
{
    if (r->mamba2)
        free(r->mamba2->tapes);
    free(r->mamba2);
    r->mamba2 = NULL;
}

static enum status check_shape(const struct model_config *c)
{
    if (c->has_norm_before_gate)
        return fail(E_USAGE, "a norm before the gate cannot be trained");
    if (c->headdim % 8 != 0 || c->d_state % 8 != 0)
        return fail(E_DEVICE, "GPUs train heads and states of multiples of 8");
    if (c->d_inner > GATE_D_MAX)
        return fail(E_DEVICE, "GPUs train a d_inner of up to %d", GATE_D_MAX);
    return OK;
}

static enum status mamba2_open(struct replica *r)
{
    TRY(check_shape(&r->config));
    struct mamba2 *m = (struct mamba2 *)calloc(1, sizeof *m);
    r->mamba2 = m;
    if (m)
        m->tapes =
            (struct mamba2_tape *)calloc(r->config.n_layer, sizeof *m->tapes);
    if (!m || !m->tapes)
        return fail_memory("training");
    m->n_chunks = ceil_div(r->n_t, CHUNK);
    return OK;
}

/* ---- memory -------------------------------------------------------------- */

static size_t n_places(const struct replica *r)
{
    return (size_t)r->n_windows * r->mamba2->n_chunks * CHUNK;
}

/* A number for each state of all chunks. */
static void *carve_states(const struct replica *r, struct carver *carver)
{
    size_t n = (size_t)r->n_windows * r->mamba2->n_chunks;
    return carve(carver, n * r->config.d_inner * r->config.d_state,
                 number_size(r));
}

/* What is needed when a layer is computed again. */
static void carve_activations(const struct replica *r, struct carver *carver,
                              struct mamba2_tape *tape)
{
    const struct model_config *c = &r->config;
    size_t n = n_places(r), n_chunks = n / CHUNK;
    tape->xbc = carve_numbers(r, carver, conv_channels(c));
    tape->x_scale = carve_floats(carver, c->n_heads, n);
    tape->bc_scale = carve_floats(carver, 2 * c->n_groups, n);
    tape->delta = carve_floats(carver, c->n_heads, n);
    tape->cum = carve_floats(carver, c->n_heads, n);
    tape->states = carve_states(r, carver);
    tape->state_scale = carve_floats(carver, n_chunks, c->d_inner);
    tape->m_largest = carve_floats(carver, c->n_heads, n);
    tape->v_largest = carve_floats(carver, n_chunks, c->d_inner);
    tape->y = carve_numbers(r, carver, c->d_inner);
    tape->gate_r = carve_floats(carver, r->n_rows, c->n_groups);
}

static void mamba2_carve_layer(struct replica *r, struct carver *carver, int l)
{
    struct mamba2_tape *tape = &r->mamba2->tapes[l];
    if (l > 0 && r->recomputes)
        *tape = r->mamba2->tapes[0];
    else
        carve_activations(r, carver, tape);
}

/* Tiles of 64 states. */
static int n_state_tiles(const struct replica *r)
{
    return ceil_div(r->config.d_state, SIDE);
}

static void mamba2_carve_scratch(struct replica *r, struct carver *carver)
{
    struct mamba2 *m = r->mamba2;
    const struct model_config *c = &r->config;
    size_t n = n_places(r);
    m->parts = carve_states(r, carver);
    m->dxbc = carve_numbers(r, carver, conv_channels(c));
    m->dcum = carve_floats(carver, (size_t)n_state_tiles(r) * c->n_heads, n);
    m->ddelta = carve_floats(carver, c->n_heads, n);
}

static size_t mamba2_partial_floats(const struct replica *r)
{
    const struct model_config *c = &r->config;
    size_t needs[] = {
        conv_partial_floats(r, conv_channels(c)),
        (size_t)GATE_BLOCKS * c->d_inner,
        n_places(r) / CHUNK * 3 * c->n_heads,
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static int mamba2_longest_scale(const struct replica *r)
{
    return in_proj_rows(&r->config);
}

/* ---- jobs ---------------------------------------------------------------- */

/* The state of layer l of the first window: past inputs of the convolution,
 * then S. */
static float *layer_state(const struct replica *r, float *states, int l)
{
    size_t n = trainer_state_floats(&r->config) / r->config.n_layer;
    return states + l * n;
}

static struct conv_heads_job conv_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct mamba2_tape *own = &r->mamba2->tapes[l];
    const struct model_config *c = &r->config;
    struct conv_heads_job job = {};
    struct train_conv_job *conv = &job.conv;
    size_t x = c->d_inner;
    conv->n_t = r->n_t;
    conv->channels = conv_channels(c);
    conv->d_conv = c->d_conv;
    conv->in = (char *)tape->projected + x * number_size(r);
    conv->ld = projected_ld(r);
    conv->row_scale = tape->x_scale.scale;
    conv->col_scale = tape->weights[W_IN].scale + x;
    conv->history = layer_state(r, r->states, l);
    conv->history_after = layer_state(r, r->after, l);
    conv->state_floats = trainer_state_floats(c);
    conv->taps = weight_at(r, l, P_CONV);
    conv->bias = weight_at(r, l, P_CONV_BIAS);
    conv->u = own->xbc;
    conv->imitates = r->imitates;
    conv->du = r->mamba2->dxbc;
    conv->din = (char *)r->dprojected + x * number_size(r);
    conv->partial = r->partial;
    job.n_heads = c->n_heads;
    job.headdim = c->headdim;
    job.n_groups = c->n_groups;
    job.d_state = c->d_state;
    job.n_places = r->mamba2->n_chunks * CHUNK;
    job.x_scale = own->x_scale;
    job.bc_scale = own->bc_scale;
    return job;
}

static struct decay_job decay_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct mamba2_tape *own = &r->mamba2->tapes[l];
    const struct model_config *c = &r->config;
    struct decay_job job = {};
    size_t dt = c->d_inner + conv_channels(c);
    job.n_t = r->n_t;
    job.n_windows = r->n_windows;
    job.n_chunks = r->mamba2->n_chunks;
    job.n_heads = c->n_heads;
    job.dt = (char *)tape->projected + dt * number_size(r);
    job.ld = projected_ld(r);
    job.row_scale = tape->x_scale.scale;
    job.col_scale = tape->weights[W_IN].scale + dt;
    job.bias = weight_at(r, l, P_DT_BIAS);
    job.a_log = weight_at(r, l, P_A_LOG);
    job.delta_min = c->delta_min;
    job.delta_max = c->delta_max;
    job.delta = own->delta;
    job.cum = own->cum;
    job.dcum = r->mamba2->dcum;
    job.ddelta = r->mamba2->ddelta;
    job.n_parts = n_state_tiles(r);
    job.ddt = (char *)r->dprojected + dt * number_size(r);
    job.partial = r->partial;
    return job;
}

static struct chunk_job chunks_of(const struct replica *r, int l)
{
    const struct mamba2_tape *own = &r->mamba2->tapes[l];
    const struct model_config *c = &r->config;
    struct chunk_job job = {};
    size_t past = (size_t)(c->d_conv - 1) * conv_channels(c);
    job.n_t = r->n_t;
    job.n_windows = r->n_windows;
    job.n_chunks = r->mamba2->n_chunks;
    job.n_heads = c->n_heads;
    job.headdim = c->headdim;
    job.n_groups = c->n_groups;
    job.d_state = c->d_state;
    job.ld = conv_channels(c);
    job.imitates = r->imitates;
    job.by_warpgroups = r->mamba2->by_warpgroups;
    job.in_one_pass = r->mamba2->in_one_pass;
    job.xbc = own->xbc;
    job.x_scale = own->x_scale;
    job.bc_scale = own->bc_scale;
    job.delta = own->delta;
    job.cum = own->cum;
    job.d = weight_at(r, l, P_D);
    job.states = own->states;
    job.state_scale = own->state_scale;
    job.parts = r->mamba2->parts;
    job.m_largest = own->m_largest;
    job.v_largest = own->v_largest;
    job.y = own->y;
    job.start = layer_state(r, r->states, l) + past;
    job.end = layer_state(r, r->after, l) + past;
    job.stride = trainer_state_floats(c);
    job.dy = r->dy;
    job.dstates = r->mamba2->parts;
    job.dxbc = r->mamba2->dxbc;
    job.dcum = r->mamba2->dcum;
    job.ddelta = r->mamba2->ddelta;
    job.dd = r->partial + 2 * c->n_heads;
    job.dd_ld = 3 * c->n_heads;
    return job;
}

/* The way back is in place: what out_proj is told becomes dy. */
static struct gate_job gate_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct mamba2_tape *own = &r->mamba2->tapes[l];
    const struct model_config *c = &r->config;
    struct gate_job job = {};
    job.d = c->d_inner;
    job.n_groups = c->n_groups;
    job.n_rows = r->n_rows;
    job.imitates = r->imitates;
    job.y = own->y;
    job.z = tape->projected;
    job.ld = projected_ld(r);
    job.z_row = tape->x_scale.scale;
    job.z_col = tape->weights[W_IN].scale;
    job.weight = weight_at(r, l, P_GATE_NORM);
    job.epsilon = c->norm_epsilon;
    job.out = tape->y;
    job.scale = tape->y_scale;
    job.r = own->gate_r;
    job.dout = r->dy;
    job.dy = r->dy;
    job.dz = r->dprojected;
    job.partial = r->partial;
    return job;
}

/* ---- a step -------------------------------------------------------------- */

static enum status mamba2_prepare_device(const struct replica *r)
{
    struct cudaDeviceProp device;
    struct chunk_job job = chunks_of(r, 0);
    CUDA_TRY(cudaGetDeviceProperties(&device, r->device),
             "asking for the device's properties");
    if (device.major < 8)
        return fail(E_DEVICE,
                    "training Mamba-2 takes compute capability 8.0 or later, "
                    "and this GPU has %d.%d",
                    device.major, device.minor);
    TRY(chunk_choose(&job, r->in_float));
    r->mamba2->by_warpgroups = job.by_warpgroups;
    r->mamba2->in_one_pass = job.in_one_pass;
    return chunk_prepare_device(&job, r->in_float);
}

static void mamba2_prepare(struct replica *r, int l)
{
    (void)r;
    (void)l;
}

static void mamba2_forward(struct replica *r, int l)
{
    struct conv_heads_job conv = conv_of(r, l);
    struct decay_job decay = decay_of(r, l);
    struct chunk_job chunks = chunks_of(r, l);
    struct gate_job gate = gate_of(r, l);

    launch_conv_heads(&conv, r->n_windows, r->in_float, r->stream);
    mark(r, PHASE_CONV);
    launch_decay(&decay, r->in_float, r->stream);
    mark(r, PHASE_DTBC);
    launch_chunk_parts(&chunks, r->in_float, r->stream);
    mark(r, PHASE_PARTS);
    launch_chunk_states(&chunks, r->in_float, r->stream);
    mark(r, PHASE_STATES);
    launch_chunk_output(&chunks, r->in_float, r->stream);
    mark(r, PHASE_SCAN);
    launch_gate(&gate, r->in_float, r->stream);
    mark(r, PHASE_QUANTISE);
}

/* The sums over chunks of what dt_bias, A_log and D get. */
static void sum_decays(const struct replica *r, int l)
{
    int n_heads = r->config.n_heads, n_chunks = n_places(r) / CHUNK;
    const struct column_sums to[] = {{gradient_at(r, l, P_DT_BIAS), n_heads},
                                     {gradient_at(r, l, P_A_LOG), n_heads},
                                     {gradient_at(r, l, P_D), n_heads}};
    launch_column_sums(r, to, 3, r->partial, n_chunks, 3 * n_heads);
}

static void mamba2_backward(struct replica *r, int l)
{
    struct conv_heads_job conv = conv_of(r, l);
    struct decay_job decay = decay_of(r, l);
    struct chunk_job chunks = chunks_of(r, l);
    struct gate_job gate = gate_of(r, l);
    int d_inner = r->config.d_inner;

    int blocks = launch_gate_back(&gate, r->in_float, r->stream);
    const struct column_sums dweight = {gradient_at(r, l, P_GATE_NORM),
                                        d_inner};
    launch_column_sums(r, &dweight, 1, r->partial, blocks, d_inner);
    mark(r, PHASE_GATE_BACK);
    launch_chunk_dparts(&chunks, r->in_float, r->stream);
    mark(r, PHASE_PARTS_BACK);
    launch_chunk_dstates(&chunks, r->in_float, r->stream);
    mark(r, PHASE_STATES_BACK);
    launch_chunk_output_back(&chunks, r->in_float, r->stream);
    mark(r, PHASE_SCAN_BACK);
    launch_decay_back(&decay, r->in_float, r->stream);
    sum_decays(r, l);
    mark(r, PHASE_DTBC_BACK);
    run_conv_backward(r, &conv.conv, l);
    mark(r, PHASE_CONV_BACK);
}

static const enum place mamba2_places[] = {P_IN_PROJ, P_OUT_PROJ};

/* In the order of struct mixer_ops. */
const struct mixer_ops mamba2_mixer = {
    W_MIXER,
    mamba2_places,
    mamba2_open,
    mamba2_close,
    mamba2_prepare_device,
    mamba2_carve_layer,
    mamba2_carve_scratch,
    mamba2_partial_floats,
    mamba2_longest_scale,
    mamba2_prepare,
    mamba2_forward,
    mamba2_backward,
};

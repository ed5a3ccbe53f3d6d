/* check_backward.c -- gradients are right, and the forward pass is the
 * engine's.
 *
 * They are compared with recorded gradients of an independent implementation in
 * float64 (data/train/README, data/train-mamba2/README), with finite
 * differences for odd shapes, with the engine bit for bit, and with those of
 * other numbers of threads and levels of the CPU.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/random.h"
#include "engine/engine_ops.h"
#include "engine/state_image.h"
#include "kernels/train_kernels.h"
#include "model/odds.h"
#include "recorded_run.h"
#include "train/backward.h"
#include "train/export.h"

#include "runner.h" /* last */

/* ---- a model in training ------------------------------------------------ */

/* One shape, with room for everything. */
struct pass {
    struct parameters parameters;
    struct threads *team;
    struct backward *backward;
    float *weights, *gradient; /* [n_floats] */
    uint8_t *bytes;            /* [windows][n_t + 1] */
    bool *begins;              /* [windows] */
    struct windows windows;
};

static float *floats(size_t n)
{
    return zeros(n, sizeof(float));
}

static void open_pass(struct pass *b, const struct model_config *config,
                      const struct backward_options *options, int n_threads)
{
    size_t n_windows = (size_t)options->n_windows;
    ck_assert_int_eq(parameters_open(&b->parameters, config), OK);
    ck_assert_int_eq(threads_open(&b->team, n_threads), OK);
    ck_assert_int_eq(
        backward_open(&b->backward, &b->parameters, options, b->team), OK);
    b->weights = floats(b->parameters.n_floats);
    b->gradient = floats(b->parameters.n_floats);
    b->bytes = calloc(n_windows, (size_t)options->n_t + 1);
    b->begins = calloc(n_windows, sizeof *b->begins);
    for (size_t i = 0; i < n_windows; i++)
        b->begins[i] = true;
    b->windows =
        (struct windows){options->n_windows, options->n_t, b->bytes, b->begins};
}

static void close_pass(struct pass *b)
{
    backward_close(b->backward);
    threads_close(b->team);
    parameters_close(&b->parameters);
    free(b->weights);
    free(b->gradient);
    free(b->bytes);
    free(b->begins);
}

static double run(struct pass *b)
{
    return backward_run(b->backward, b->gradient, b->weights, &b->windows);
}

/* Bytes of a small alphabet: each is seen several times. */
static void random_bytes(struct pass *b, uint64_t seed)
{
    size_t n = (size_t)b->windows.n * ((size_t)b->windows.n_t + 1);
    for (size_t i = 0; i < n; i++)
        b->bytes[i] = (uint8_t)(random_at(seed, i) % 23);
}

/* ---- the reference ------------------------------------------------------ */

static void compare_gradients(const struct recorded *r, bool imitates,
                              double tolerance)
{
    struct pass b;
    struct backward_options options = {RECORDED_WINDOWS, r->n_t, imitates,
                                       NULL};
    const char *name =
        imitates ? "grads-int8.safetensors" : "grads-float.safetensors";
    open_pass(&b, &r->shape, &options, 2);
    recorded_load(r, &b.parameters, b.weights, "init.safetensors");
    recorded_read_batches(r, b.bytes, 1);
    ck_assert_double_eq_tol(run(&b), imitates ? r->imitated_loss : r->loss,
                            1e-5);

    float *expected = floats(b.parameters.n_floats);
    recorded_load(r, &b.parameters, expected, name);
    for (size_t i = 0; i < b.parameters.n; i++) {
        const struct parameter *p = &b.parameters.list[i];
        double d = distance(b.gradient + p->offset, expected + p->offset, p->n);
        ck_assert_msg(d < tolerance, "%s/%s: %s is off by %.2e", r->folder,
                      name, p->name, d);
    }
    free(expected);
    close_pass(&b);
}

START_TEST(gradients_are_those_recorded)
{
    compare_gradients(&recorded_runs[_i], false, 2e-5);
}
END_TEST

/* One number that is rounded the other way changes all that follow. */
START_TEST(imitated_gradients_are_those_recorded)
{
    compare_gradients(&recorded_runs[_i], true, 2e-2);
}
END_TEST

/* ---- finite differences ------------------------------------------------- */

static const struct model_config odd_shapes[] = {
    {.d_model = 12,
     .n_layer = 2,
     .d_inner = 20,
     .d_state = 4,
     .d_conv = 2,
     .dt_rank = 1,
     .begin_byte = -1,
     .norm_epsilon = 1e-5f},
    {.d_model = 20,
     .n_layer = 1,
     .d_inner = 36,
     .d_state = 8,
     .d_conv = 3,
     .dt_rank = 5,
     .has_norm_bias = true,
     .begin_byte = 0,
     .norm_epsilon = 1e-5f},
    {.d_model = 68,
     .n_layer = 2,
     .d_inner = 44,
     .d_state = 32,
     .d_conv = 8,
     .dt_rank = 7,
     .is_tied = true,
     .begin_byte = 0,
     .norm_epsilon = 1e-3f},
    {.mixer = MIXER_MAMBA2,
     .d_model = 12,
     .n_layer = 2,
     .d_inner = 24,
     .d_state = 16,
     .d_conv = 2,
     .n_heads = 3,
     .headdim = 8,
     .n_groups = 1,
     .delta_max = INFINITY,
     .begin_byte = -1,
     .norm_epsilon = 1e-5f},
    {.mixer = MIXER_MAMBA2,
     .d_model = 20,
     .n_layer = 1,
     .d_inner = 96,
     .d_state = 48,
     .d_conv = 3,
     .n_heads = 4,
     .headdim = 24,
     .n_groups = 2,
     .delta_max = INFINITY,
     .has_norm_bias = true,
     .begin_byte = 0,
     .norm_epsilon = 1e-5f},
    {.mixer = MIXER_MAMBA2,
     .d_model = 36,
     .n_layer = 2,
     .d_inner = 128,
     .d_state = 80,
     .d_conv = 8,
     .n_heads = 1,
     .headdim = 128,
     .n_groups = 1,
     .delta_min = 0.01f,
     .delta_max = 0.09f,
     .is_tied = true,
     .begin_byte = 0,
     .norm_epsilon = 1e-3f},
};

enum {
    N_ODD = sizeof odd_shapes / sizeof odd_shapes[0],
    FIRST_MAMBA2 = 3 /* of them */
};

/* Weights for which gradients are neither small nor alike. */
static void random_weights(const struct parameters *p, float *weights)
{
    parameters_init(p, weights, 7);
    for (size_t i = 0; i < p->n_floats; i++)
        weights[i] +=
            0.05f * ((float)(random_at(3, i) >> 40) * 0x1p-23f - 1.0f);
}

/* The slope of the loss along the gradient of one tensor, from the difference
 * of two losses, equals the size of the gradient. */
static void check_slope(struct pass *b, const struct parameter *p,
                        const float *states)
{
    size_t n = p->n, n_states = (size_t)b->windows.n *
                                trainer_state_floats(&b->parameters.config);
    float *gradient = floats(n), *weights = floats(n);
    memcpy(weights, b->weights + p->offset, n * sizeof(float));
    memcpy(backward_states(b->backward), states, n_states * sizeof(float));
    run(b);
    memcpy(gradient, b->gradient + p->offset, n * sizeof(float));

    double size = 0, loss[2], step = 0.02;
    for (size_t i = 0; i < n; i++)
        size += (double)gradient[i] * (double)gradient[i];
    size = sqrt(size);
    for (int side = 0; side < 2; side++) {
        double along = (side == 0 ? step : -step) / (size + 1e-30);
        for (size_t i = 0; i < n; i++)
            b->weights[p->offset + i] =
                weights[i] + (float)(along * (double)gradient[i]);
        memcpy(backward_states(b->backward), states, n_states * sizeof(float));
        loss[side] = run(b);
    }
    memcpy(b->weights + p->offset, weights, n * sizeof(float));
    double slope = (loss[0] - loss[1]) / (2 * step);
    ck_assert_msg(fabs(slope - size) < 0.01 * size + 2e-5,
                  "%s: slope %.6f, gradient %.6f", p->name, slope, size);
    free(gradient);
    free(weights);
}

START_TEST(gradients_are_finite_differences)
{
    struct pass b;
    const struct model_config *config = &odd_shapes[_i];
    int n_t = config->mixer == MIXER_MAMBA2 ? 150 : 37;
    struct backward_options options = {3, n_t, false, NULL};
    open_pass(&b, config, &options, 2);
    random_weights(&b.parameters, b.weights);
    random_bytes(&b, 5);
    /* the second and the third window continue from a state */
    run(&b);
    b.begins[1] = b.begins[2] = false;
    size_t n = 3 * trainer_state_floats(config);
    float *states = floats(n);
    memcpy(states, backward_states(b.backward), n * sizeof(float));
    for (size_t i = 0; i < b.parameters.n; i++) {
        if (b.parameters.list[i].n > 0)
            check_slope(&b, &b.parameters.list[i], states);
    }
    free(states);
    close_pass(&b);
}
END_TEST

/* ---- the engine --------------------------------------------------------- */

/* An engine with the finished model of a bench. */
struct finished {
    uint8_t *bytes;
    struct model *model;
    struct engine *engine;
    struct state *state; /* all zero: before any begin byte */
    float *image;
};

static void open_finished(struct finished *f, const struct pass *b)
{
    struct provenance none = {NULL, 0};
    struct engine_options cpu = {.device = DEVICE_CPU, .n_threads = 1};
    size_t n;
    ck_assert_int_eq(
        export_memory(&f->bytes, &n, &b->parameters, b->weights, &none), OK);
    ck_assert_msg(model_open_memory(&f->model, "finished", f->bytes, n) == OK,
                  "%s", status_message());
    ck_assert_int_eq(engine_open(&f->engine, f->model, &cpu), OK);
    ck_assert_int_eq(f->engine->ops->state_new(f->engine, &f->state), OK);
    f->image = floats(model_state_size(&f->model->config) / sizeof(float) + 1);
    ck_assert_int_eq(engine_state_set(f->engine, f->state, f->image), OK);
}

static void close_finished(struct finished *f)
{
    engine_state_free(f->engine, f->state);
    engine_close(f->engine);
    model_close(f->model);
    free(f->image);
    free(f->bytes);
}

/* The engine reads window 1 of the batch; its mean cost, in nats. */
static double read_window(struct finished *f, const struct pass *b)
{
    size_t n_t = (size_t)b->windows.n_t;
    const uint8_t *bytes = b->bytes + n_t + 1;
    float *bits = floats(n_t + 1);
    struct segment window = {
        .state = f->state, .bytes = bytes, .n = n_t, .bits = bits};
    ck_assert_int_eq(engine_feed(f->engine, &window, 1), OK);
    ck_assert_int_eq(engine_state_get(f->engine, f->state, f->image), OK);
    double sum = (double)odds_cost(state_logits(&f->model->config, f->image),
                                   bytes[n_t]);
    for (size_t i = 1; i < n_t; i++)
        sum += (double)bits[i];
    free(bits);
    return sum / (double)n_t / (double)EXACT_LOG2E;
}

/* The state of window 1, layer by layer; an image has more of a layer. */
static void compare_states(struct pass *b, const struct finished *f)
{
    const struct model_config *c = &b->parameters.config;
    size_t n = trainer_state_floats(c), layer = n / (size_t)c->n_layer;
    const float *actual = backward_states(b->backward) + n;
    for (int l = 0; l < c->n_layer; l++)
        ck_assert_mem_eq(actual + (size_t)l * layer, state_conv(c, f->image, l),
                         layer * sizeof(float));
}

/* Both windows of the batch are alike, so that its loss is that of one; the
 * next batch goes on from the states. */
START_TEST(states_are_those_of_the_engine)
{
    struct pass b;
    struct finished f;
    const struct model_config *config = &odd_shapes[_i];
    int n_t = config->mixer == MIXER_MAMBA2 ? 2 * CHUNK : 50;
    struct backward_options options = {2, n_t, true, NULL};
    open_pass(&b, config, &options, 2);
    random_weights(&b.parameters, b.weights);
    open_finished(&f, &b);
    for (uint64_t round = 0; round < 3; round++) {
        random_bytes(&b, round);
        memcpy(b.bytes, b.bytes + n_t + 1, (size_t)n_t + 1);
        double loss = run(&b);
        ck_assert_double_eq_tol(loss, read_window(&f, &b), 1e-5);
        compare_states(&b, &f);
        b.begins[0] = b.begins[1] = false;
    }
    close_finished(&f);
    close_pass(&b);
}
END_TEST

/* States after two windows that end within a chunk. */
static float *states_after(const struct model_config *config, bool imitates)
{
    struct pass b;
    struct backward_options options = {2, CHUNK + 27, imitates, NULL};
    size_t n = 2 * trainer_state_floats(config);
    float *states = floats(n);
    open_pass(&b, config, &options, 2);
    random_weights(&b.parameters, b.weights);
    for (uint64_t round = 0; round < 2; round++) {
        random_bytes(&b, round);
        run(&b);
        b.begins[0] = b.begins[1] = false;
    }
    memcpy(states, backward_states(b.backward), n * sizeof(float));
    close_pass(&b);
    return states;
}

/* Floats know no chunks. */
START_TEST(states_within_a_chunk_are_near_those_of_floats)
{
    const struct model_config *config = &odd_shapes[_i];
    float *imitated = states_after(config, true);
    float *in_floats = states_after(config, false);
    double d = distance(imitated, in_floats, 2 * trainer_state_floats(config));
    ck_assert_msg(d < 0.05, "shape %d: off by %.2e", _i, d);
    free(imitated);
    free(in_floats);
}
END_TEST

/* ---- threads and levels ------------------------------------------------- */

/* The gradient, and the loss before it. */
static float *gradient_with(const struct model_config *config,
                            const struct backward_options *options,
                            int n_threads, size_t *n)
{
    struct pass b;
    open_pass(&b, config, options, n_threads);
    random_weights(&b.parameters, b.weights);
    random_bytes(&b, 5);
    run(&b);
    b.begins[0] = false;
    *n = b.parameters.n_floats + 1;
    float *all = floats(*n);
    all[0] = (float)run(&b);
    memcpy(all + 1, b.gradient, b.parameters.n_floats * sizeof(float));
    close_pass(&b);
    return all;
}

START_TEST(threads_and_levels_change_no_bit)
{
    const struct model_config *config = &odd_shapes[1 + _i / 2 * FIRST_MAMBA2];
    struct backward_options options = {2, _i < 2 ? 41 : 91, _i % 2 == 1, NULL};
    size_t n;
    float *expected = gradient_with(config, &options, 1, &n);
    for (const struct train_kernels *const *level = train_kernels_all(); *level;
         level++) {
        options.kernels = *level;
        for (int threads = 1; threads <= 5; threads += 2) {
            float *actual = gradient_with(config, &options, threads, &n);
            ck_assert_msg(memcmp(actual, expected, n * sizeof *actual) == 0,
                          "%s, %d threads", (*level)->name, threads);
            free(actual);
        }
    }
    free(expected);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backward");
    TCase *gradients = tcase_create("gradients");
    tcase_set_timeout(gradients, 120);
    tcase_add_loop_test(gradients, gradients_are_those_recorded, 0, N_RECORDED);
    tcase_add_loop_test(gradients, imitated_gradients_are_those_recorded, 0,
                        N_RECORDED);
    tcase_add_loop_test(gradients, gradients_are_finite_differences, 0, N_ODD);
    tcase_add_loop_test(gradients, states_are_those_of_the_engine, 0, N_ODD);
    tcase_add_loop_test(gradients,
                        states_within_a_chunk_are_near_those_of_floats,
                        FIRST_MAMBA2, N_ODD);
    tcase_add_loop_test(gradients, threads_and_levels_change_no_bit, 0, 4);
    suite_add_tcase(suite, gradients);
    return run_suite(suite);
}

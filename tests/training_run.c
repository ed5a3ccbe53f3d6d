/* training_run.c -- runs of trainers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "training_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#include "runner.h" /* last */

void assert_ok(enum status status)
{
    ck_assert_msg(status == OK, "%s", status_message());
}

void *zeros(size_t n, size_t size)
{
    void *x = calloc(n, size);
    ck_assert_ptr_nonnull(x);
    return x;
}

void bench_open(struct bench *b, const struct model_config *config,
                int n_windows, int n_t)
{
    assert_ok(parameters_open(&b->parameters, config));
    size_t n = b->parameters.n_floats;
    b->weights = zeros(n, sizeof *b->weights);
    b->bytes = zeros((size_t)n_windows, (size_t)n_t + 1);
    b->begins = zeros((size_t)n_windows, sizeof *b->begins);
    b->windows = (struct windows){n_windows, n_t, b->bytes, b->begins};
    parameters_init(&b->parameters, b->weights, 7);
    for (size_t i = 0; i < n; i++)
        b->weights[i] +=
            0.05f * ((float)(random_at(3, i) >> 40) * 0x1p-23f - 1.0f);
}

void bench_close(struct bench *b)
{
    parameters_close(&b->parameters);
    free(b->weights);
    free(b->bytes);
    free(b->begins);
}

void bench_draw(struct bench *b, int step)
{
    size_t n = (size_t)b->windows.n * ((size_t)b->windows.n_t + 1);
    for (size_t i = 0; i < n; i++)
        b->bytes[i] = (uint8_t)(random_at((uint64_t)step, i) % 23);
    for (int i = 0; i < b->windows.n; i++)
        b->begins[i] = step == 0 || i % 3 == 2;
}

struct trainer *bench_trainer(struct bench *b,
                              const struct trainer_options *given)
{
    struct trainer_options options = *given;
    struct trainer *t;
    options.n_windows = b->windows.n;
    options.n_t = b->windows.n_t;
    options.n_threads = 2;
    assert_ok(trainer_open(&t, &b->parameters, &options));
    assert_ok(trainer_set(t, PART_WEIGHTS, b->weights));
    return t;
}

float *bench_part(struct trainer *t, enum trainer_part part)
{
    float *x = zeros(trainer_part_floats(t, part), sizeof *x);
    assert_ok(trainer_get(t, part, x));
    return x;
}

double bench_gradient(struct trainer *t, struct bench *b, int step)
{
    struct step result;
    bench_draw(b, step);
    assert_ok(trainer_gradient(t, &result, &b->windows));
    ck_assert(isfinite(result.loss) && isfinite(result.gradient_norm));
    return result.loss;
}

double bench_step(struct trainer *t, struct bench *b, int step)
{
    struct update update = {1e-3, 0.5, 0.05, (uint64_t)step + 1};
    double loss = bench_gradient(t, b, step);
    assert_ok(trainer_update(t, &update));
    return loss;
}

double distance(const float *a, const float *b, size_t n)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(sum / (size + 1e-30));
}

float *bench_run(const struct trainer_options *options, struct bench *b,
                 int n_steps, enum trainer_part part, double *loss)
{
    struct trainer *t = bench_trainer(b, options);
    for (int i = 0; i < n_steps; i++)
        *loss = bench_step(t, b, i);
    float *x = bench_part(t, part);
    trainer_close(t);
    return x;
}

bool trainer_has_gpu(const struct model_config *config)
{
    struct parameters p;
    struct trainer_options options = {
        .n_windows = 1, .n_t = 1, .device = DEVICE_CUDA};
    struct trainer *t;
    if (parameters_open(&p, config) != OK)
        return false;
    bool has = trainer_open(&t, &p, &options) == OK;
    trainer_close(t);
    parameters_close(&p);
    return has;
}

static size_t part_floats(const struct bench *b, int part)
{
    size_t n_windows = (size_t)b->windows.n;
    return part == PART_STATES
               ? n_windows * trainer_state_floats(&b->parameters.config)
               : b->parameters.n_floats;
}

void bench_check_bits(struct bench *b, const struct trainer_options *options)
{
    const struct trainer_tuning tuning = {.recomputes = true};
    struct trainer_options twice = *options;
    twice.tuning = &tuning;
    for (int part = 0; part < N_PARTS; part++) {
        enum trainer_part at = (enum trainer_part)part;
        size_t n = part_floats(b, part) * sizeof(float);
        double loss[3];
        float *x = bench_run(options, b, 3, at, loss);
        float *y = bench_run(options, b, 3, at, loss + 1);
        float *z = bench_run(&twice, b, 3, at, loss + 2);
        ck_assert_msg(memcmp(x, y, n) == 0, "part %d", part);
        ck_assert_msg(memcmp(x, z, n) == 0, "part %d, twice", part);
        ck_assert(loss[0] == loss[1] && loss[0] == loss[2]);
        free(x);
        free(y);
        free(z);
    }
}

static bool has_two_gpus(const struct bench *b,
                         const struct trainer_options *two)
{
    struct trainer_options options = *two;
    struct trainer *t;
    options.n_windows = b->windows.n;
    options.n_t = b->windows.n_t;
    bool has = trainer_open(&t, &b->parameters, &options) == OK;
    trainer_close(t);
    return has;
}

void bench_check_two_gpus(struct bench *b,
                          const struct trainer_options *options)
{
    struct trainer_options two = *options;
    two.n_gpus = 2;
    if (!has_two_gpus(b, &two)) {
        printf("one GPU alone: %s\n", status_message());
        return;
    }
    for (int part = 0; part < N_PARTS; part++) {
        enum trainer_part at = (enum trainer_part)part;
        double want_loss, loss;
        float *want = bench_run(options, b, 2, at, &want_loss);
        float *have = bench_run(&two, b, 2, at, &loss);
        double d = distance(have, want, part_floats(b, part));
        ck_assert_msg(d < 1e-2, "part %d is off by %.2e", part, d);
        ck_assert_double_eq_tol(loss, want_loss, 1e-3);
        free(want);
        free(have);
    }
}

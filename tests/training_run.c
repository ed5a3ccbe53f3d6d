/* training_run.c -- runs of trainers, and recorded ones to hold them to.
 *
 * SPDX-License-Identifier: MIT
 */
#include "training_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "train/schedule.h"

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

const char *recorded_path(char path[512], const char *folder, const char *name)
{
    snprintf(path, 512, "%s/tests/data/%s/%s", source_folder(), folder, name);
    return path;
}

void recorded_load(const struct parameters *p, float *x, const char *folder,
                   const char *name)
{
    char path[512];
    struct safetensors *file;
    assert_ok(safetensors_open(&file, recorded_path(path, folder, name)));
    assert_ok(parameters_load(p, x, file, ""));
    safetensors_close(file);
}

static uint8_t *read_batches(const char *folder, size_t n)
{
    char path[512];
    uint8_t *bytes = zeros(n, 1);
    FILE *in = fopen(recorded_path(path, folder, "batches.bin"), "rb");
    ck_assert_ptr_nonnull(in);
    ck_assert_uint_eq(fread(bytes, 1, n, in), n);
    fclose(in);
    return bytes;
}

void recorded_follow(struct trainer *t, const char *folder, double tolerance,
                     double norm_tolerance)
{
    const bool begins[] = {true, true, true, true};
    const struct schedule schedule = {2e-3, 10, 0.35};
    const size_t batch = (size_t)t->n_windows * ((size_t)t->n_t + 1);
    char path[512], header[256];
    uint8_t *bytes = read_batches(folder, RECORDED_STEPS * batch);
    FILE *run = fopen(recorded_path(path, folder, "run.tsv"), "r");
    ck_assert_ptr_nonnull(run);
    ck_assert_ptr_nonnull(fgets(header, sizeof header, run));
    for (int i = 0; i < RECORDED_STEPS; i++) {
        int index;
        double loss, norm, rate;
        struct step step;
        struct windows windows = {t->n_windows, t->n_t,
                                  bytes + (size_t)i * batch, begins};
        ck_assert_int_eq(
            fscanf(run, "%d %lf %lf %lf", &index, &loss, &norm, &rate), 4);
        assert_ok(trainer_gradient(t, &step, &windows));
        ck_assert_double_eq_tol(step.loss, loss, tolerance);
        ck_assert_double_eq_tol(step.gradient_norm, norm,
                                norm_tolerance * norm);
        double scale = 1 / (step.gradient_norm + 1e-6);
        struct update update = {
            .learning_rate = schedule_rate(&schedule, (uint64_t)i,
                                           (double)i / RECORDED_STEPS),
            .gradient_scale = scale < 1 ? scale : 1,
            .weight_decay = 0.05,
            .n = (uint64_t)i + 1,
        };
        assert_ok(trainer_update(t, &update));
    }
    fclose(run);
    free(bytes);
}

void recorded_check(const struct bench *b, struct trainer *t,
                    const char *folder, double share)
{
    const struct parameters *p = &b->parameters;
    float *expected = zeros(p->n_floats, sizeof *expected);
    float *actual = bench_part(t, PART_WEIGHTS);
    recorded_load(p, expected, folder, "final.safetensors");
    for (size_t i = 0; i < p->n; i++) {
        const struct parameter *at = &p->list[i];
        double moved = 0, off = 0;
        for (size_t k = at->offset; k < at->offset + at->n; k++) {
            moved += pow((double)expected[k] - (double)b->weights[k], 2);
            off += pow((double)expected[k] - (double)actual[k], 2);
        }
        ck_assert_msg(off <= share * share * moved, "%s moved %.3g, off %.3g",
                      at->name, sqrt(moved), sqrt(off));
    }
    free(expected);
    free(actual);
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

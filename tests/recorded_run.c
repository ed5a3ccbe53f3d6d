/* recorded_run.c -- runs that an independent implementation recorded, and
 * trainers held to them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "recorded_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "train/schedule.h"

#include "runner.h" /* last */

const struct recorded recorded_runs[N_RECORDED] = {
    {.folder = "train",
     .n_t = 96,
     .loss = 5.5073092128,
     .imitated_loss = 5.5067117055,
     .shape = {.d_model = 32,
               .n_layer = 2,
               .d_inner = 64,
               .d_state = 16,
               .d_conv = 4,
               .dt_rank = 2,
               .begin_byte = -1,
               .norm_epsilon = 1e-5f}},
    {.folder = "train-mamba2",
     .n_t = 160,
     .loss = 5.9981759977,
     .imitated_loss = 5.9968133018,
     .shape = {.mixer = MIXER_MAMBA2,
               .d_model = 32,
               .n_layer = 2,
               .d_inner = 64,
               .d_state = 16,
               .d_conv = 4,
               .n_heads = 4,
               .headdim = 16,
               .n_groups = 1,
               .delta_max = INFINITY,
               .begin_byte = -1,
               .norm_epsilon = 1e-5f}},
};

/* ---- files of the folder ------------------------------------------------ */

static const char *path_of(char path[DATA_PATH_CHARS], const struct recorded *r,
                           const char *name)
{
    return data_path(path, "%s/%s", r->folder, name);
}

void recorded_load(const struct recorded *r, const struct parameters *p,
                   float *x, const char *name)
{
    char path[DATA_PATH_CHARS];
    struct safetensors *file;
    assert_ok(safetensors_open(&file, path_of(path, r, name)));
    assert_ok(parameters_load(p, x, file, ""));
    safetensors_close(file);
}

static size_t batch_bytes(const struct recorded *r)
{
    return RECORDED_WINDOWS * ((size_t)r->n_t + 1);
}

void recorded_read_batches(const struct recorded *r, uint8_t *bytes,
                           int n_steps)
{
    char path[DATA_PATH_CHARS];
    size_t n = (size_t)n_steps * batch_bytes(r);
    FILE *in = fopen(path_of(path, r, "batches.bin"), "rb");
    ck_assert_ptr_nonnull(in);
    ck_assert_uint_eq(fread(bytes, 1, n, in), n);
    fclose(in);
}

static FILE *open_steps(const struct recorded *r)
{
    char path[DATA_PATH_CHARS], header[256];
    FILE *steps = fopen(path_of(path, r, "run.tsv"), "r");
    ck_assert_ptr_nonnull(steps);
    ck_assert_ptr_nonnull(fgets(header, sizeof header, steps));
    return steps;
}

/* ---- runs --------------------------------------------------------------- */

void recorded_open_bench(const struct recorded *r, struct bench *b)
{
    bench_open(b, &r->shape, RECORDED_WINDOWS, r->n_t);
    recorded_load(r, &b->parameters, b->weights, "init.safetensors");
    recorded_read_batches(r, b->bytes, 1);
    for (int i = 0; i < b->windows.n; i++)
        b->begins[i] = true;
}

/* A step, held to a row of run.tsv: step, loss, size of the gradient, rate. */
static void make_step(struct trainer *t, const struct windows *windows, int i,
                      FILE *steps, struct recorded_tolerance tolerance)
{
    const struct schedule schedule = {2e-3, 10, 0.35};
    int index;
    double loss, norm, rate;
    struct step step;
    ck_assert_int_eq(
        fscanf(steps, "%d %lf %lf %lf", &index, &loss, &norm, &rate), 4);
    assert_ok(trainer_gradient(t, &step, windows));
    ck_assert_double_eq_tol(step.loss, loss, tolerance.loss);
    ck_assert_double_eq_tol(step.gradient_norm, norm, tolerance.norm * norm);
    double scale = 1 / (step.gradient_norm + 1e-6);
    struct update update = {
        .learning_rate =
            schedule_rate(&schedule, (uint64_t)i, (double)i / RECORDED_STEPS),
        .gradient_scale = scale < 1 ? scale : 1,
        .weight_decay = 0.05,
        .n = (uint64_t)i + 1,
    };
    ck_assert_double_eq_tol(update.learning_rate, rate, 1e-9);
    assert_ok(trainer_update(t, &update));
}

static void follow(const struct recorded *r, struct bench *b, struct trainer *t,
                   struct recorded_tolerance tolerance)
{
    uint8_t *bytes = zeros(RECORDED_STEPS, batch_bytes(r));
    FILE *steps = open_steps(r);
    recorded_read_batches(r, bytes, RECORDED_STEPS);
    for (int i = 0; i < RECORDED_STEPS; i++) {
        struct windows windows = b->windows;
        windows.bytes = bytes + (size_t)i * batch_bytes(r);
        make_step(t, &windows, i, steps, tolerance);
    }
    fclose(steps);
    free(bytes);
}

static void check_weights(const struct recorded *r, const struct bench *b,
                          struct trainer *t, double share)
{
    const struct parameters *p = &b->parameters;
    float *expected = zeros(p->n_floats, sizeof *expected);
    float *actual = bench_part(t, PART_WEIGHTS);
    recorded_load(r, p, expected, "final.safetensors");
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

void recorded_check(const struct recorded *r,
                    const struct trainer_options *options,
                    struct recorded_tolerance tolerance)
{
    struct bench b;
    recorded_open_bench(r, &b);
    struct trainer *t = bench_trainer(&b, options);
    follow(r, &b, t, tolerance);
    check_weights(r, &b, t, tolerance.weights);
    trainer_close(t);
    bench_close(&b);
}

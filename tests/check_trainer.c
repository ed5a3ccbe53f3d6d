/* check_trainer.c -- forty steps of a recorded run, the schedule, and the
 * optimisers one by one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/adamw.h"
#include "train/muon.h"
#include "train/schedule.h"
#include "train/trainer_ops.h"

#include "runner.h" /* last */

enum { WINDOWS = 4, STEPS = 40, N_RECORDED = 2 };

/* A folder of data, and what was recorded there. */
static const struct recorded {
    const char *folder;
    int n_t;
    struct model_config shape;
} recorded[N_RECORDED] = {
    {"train",
     96,
     {.d_model = 32,
      .n_layer = 2,
      .d_inner = 64,
      .d_state = 16,
      .d_conv = 4,
      .dt_rank = 2,
      .begin_byte = -1,
      .norm_epsilon = 1e-5f}},
    {"train-mamba2",
     160,
     {.mixer = MIXER_MAMBA2,
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

static const char *data_path(char path[512], const struct recorded *r,
                             const char *name)
{
    snprintf(path, 512, "%s/tests/data/%s/%s", source_folder(), r->folder,
             name);
    return path;
}

static float *load(const struct parameters *p, const struct recorded *r,
                   const char *name)
{
    char path[512];
    struct safetensors *file;
    float *x = calloc(p->n_floats, sizeof *x);
    ck_assert_ptr_nonnull(x);
    ck_assert_msg(safetensors_open(&file, data_path(path, r, name)) == OK, "%s",
                  status_message());
    ck_assert_int_eq(parameters_load(p, x, file, ""), OK);
    safetensors_close(file);
    return x;
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sqrt(sum);
}

/* ---- the recorded run --------------------------------------------------- */

static uint8_t *read_batches(const struct recorded *r)
{
    char path[512];
    size_t batch = (size_t)(WINDOWS * (r->n_t + 1));
    uint8_t *bytes = malloc(STEPS * batch);
    FILE *in = fopen(data_path(path, r, "batches.bin"), "rb");
    ck_assert_ptr_nonnull(bytes);
    ck_assert_ptr_nonnull(in);
    ck_assert_uint_eq(fread(bytes, batch, STEPS, in), STEPS);
    fclose(in);
    return bytes;
}

/* A row of run.tsv: loss, size of the gradient, rate. */
static void read_row(FILE *run, double *loss, double *norm, double *rate)
{
    int step;
    ck_assert_int_eq(fscanf(run, "%d %lf %lf %lf", &step, loss, norm, rate), 4);
}

static FILE *open_run(const struct recorded *r)
{
    char path[512], header[256];
    FILE *run = fopen(data_path(path, r, "run.tsv"), "r");
    ck_assert_ptr_nonnull(run);
    ck_assert_ptr_nonnull(fgets(header, sizeof header, run));
    return run;
}

static void follow(struct trainer *t, const struct recorded *r)
{
    uint8_t *bytes = read_batches(r);
    const bool begins[WINDOWS] = {true, true, true, true};
    const struct schedule schedule = {2e-3, 10, 0.35};
    FILE *run = open_run(r);
    for (int i = 0; i < STEPS; i++) {
        double loss, norm, rate;
        struct step step;
        struct windows windows = {WINDOWS, r->n_t,
                                  bytes + i * WINDOWS * (r->n_t + 1), begins};
        read_row(run, &loss, &norm, &rate);
        ck_assert_int_eq(trainer_gradient(t, &step, &windows), OK);
        ck_assert_double_eq_tol(step.loss, loss, 2e-3);
        ck_assert_double_eq_tol(step.gradient_norm, norm, 0.02 * norm);
        double scale = 1 / (step.gradient_norm + 1e-6);
        struct update update = {
            .learning_rate =
                schedule_rate(&schedule, (uint64_t)i, (double)i / STEPS),
            .gradient_scale = scale < 1 ? scale : 1,
            .weight_decay = 0.05,
            .n = (uint64_t)i + 1,
        };
        ck_assert_double_eq_tol(update.learning_rate, rate, 1e-9);
        ck_assert_int_eq(trainer_update(t, &update), OK);
    }
    fclose(run);
    free(bytes);
}

START_TEST(forty_steps_are_those_of_the_reference)
{
    const struct recorded *r = &recorded[_i];
    struct parameters p;
    struct trainer *t;
    struct trainer_options options = {.n_windows = WINDOWS,
                                      .n_t = r->n_t,
                                      .imitates_int8 = true,
                                      .n_threads = 2};
    ck_assert_int_eq(parameters_open(&p, &r->shape), OK);
    ck_assert_int_eq(cpu_trainer_open(&t, &p, &options), OK);
    float *first = load(&p, r, "init.safetensors");
    float *expected = load(&p, r, "final.safetensors");
    float *actual = calloc(p.n_floats, sizeof *actual);
    ck_assert_int_eq(trainer_set(t, PART_WEIGHTS, first), OK);
    follow(t, r);
    ck_assert_int_eq(trainer_get(t, PART_WEIGHTS, actual), OK);
    for (size_t i = 0; i < p.n; i++) {
        const struct parameter *at = &p.list[i];
        double moved =
            distance(expected + at->offset, first + at->offset, at->n);
        double off =
            distance(actual + at->offset, expected + at->offset, at->n);
        ck_assert_msg(off <= 0.1 * moved, "%s moved by %.3g, off by %.3g",
                      at->name, moved, off);
    }
    trainer_close(t);
    parameters_close(&p);
    free(first);
    free(expected);
    free(actual);
}
END_TEST

/* ---- parts -------------------------------------------------------------- */

START_TEST(the_rate_rises_stays_and_falls)
{
    const struct schedule s = {1.0, 4, 0.5};
    static const double expected[] = {0.25, 0.5, 0.75, 1,   1,
                                      1,    0.8, 0.6,  0.4, 0.2};
    for (uint64_t i = 0; i < 10; i++)
        ck_assert_double_eq_tol(schedule_rate(&s, i, (double)i / 10),
                                expected[i], 1e-12);
}
END_TEST

/* The first step of AdamW is the rate along the sign of the gradient, and
 * what decays shrinks besides. */
START_TEST(adamw_begins_with_the_sign)
{
    struct parameter p = {.n = 3, .decays = true};
    float w[3] = {1, 1, 1}, m[3] = {0}, v[3] = {0}, g[3] = {3, -0.01f, 0};
    struct update update = {0.1, 1, 0.5, 1};
    adamw_update(&p, w, m, v, g, &update);
    ck_assert_float_eq_tol(w[0], 0.85f, 1e-5f);
    ck_assert_float_eq_tol(w[1], 1.05f, 1e-5f);
    ck_assert_float_eq_tol(w[2], 0.95f, 1e-6f);
}
END_TEST

/* What Muon adds, over 0.2 sqrt(larger side), has singular values near 1,
 * whichever side is larger. */
START_TEST(muon_moves_orthogonally)
{
    struct model_config config = recorded[0].shape;
    struct parameters p;
    struct threads *team;
    struct muon *muon;
    ck_assert_int_eq(parameters_open(&p, &config), OK);
    ck_assert_int_eq(threads_open(&team, 3), OK);
    ck_assert_int_eq(muon_open(&muon, &p, team), OK);
    const struct parameter *at =
        parameters_at(&p, 0, _i == 0 ? P_IN_PROJ : P_OUT_PROJ);
    float *w = calloc(3 * p.n_floats, sizeof *w);
    float *m = w + p.n_floats, *g = m + p.n_floats;
    for (size_t i = 0; i < at->n; i++)
        g[at->offset + i] = (float)((i * 2654435761u >> 7) % 1000) - 500;
    struct update update = {1, 1, 0, 1};
    muon_update(muon, at, w, m, g, &update);

    int rows = at->muon_rows, cols = at->shape[1];
    double scale = 0.2 * sqrt(rows > cols ? rows : cols), sum = 0;
    size_t n = (size_t)rows * (size_t)cols;
    for (size_t i = 0; i < n; i++)
        sum += pow((double)w[at->offset + i] / scale, 2);
    /* the sum of squared singular values, each from 0.7 to 1.2 */
    int least = rows < cols ? rows : cols;
    ck_assert_double_gt(sum, 0.5 * least);
    ck_assert_double_lt(sum, 1.5 * least);
    free(w);
    muon_close(muon);
    threads_close(team);
    parameters_close(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *steps = tcase_create("steps");
    tcase_set_timeout(steps, 120);
    tcase_add_loop_test(steps, forty_steps_are_those_of_the_reference, 0,
                        N_RECORDED);
    tcase_add_test(steps, the_rate_rises_stays_and_falls);
    tcase_add_test(steps, adamw_begins_with_the_sign);
    tcase_add_loop_test(steps, muon_moves_orthogonally, 0, 2);
    suite_add_tcase(suite, steps);
    return run_suite(suite);
}

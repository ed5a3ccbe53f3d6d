/* check_cuda_trainer.c -- training on a GPU against training on the CPU,
 * which check_backward.c holds to finite differences.
 *
 * Gradients of odd shapes, tensor by tensor: closely with float32 products,
 * within what bf16 allows with bf16 ones.  A gradient is read from the first
 * moments after an update at rate 0.  Then states, the recorded run of forty
 * steps, the same bits in every run and when layers are computed twice, a run
 * that changes to the CPU, and two GPUs against one.
 *
 * Skipped where there is no GPU, unless MAMBYTE_REQUIRE_GPU=1.  Tests do not
 * fork: a CUDA context does not survive it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "train/schedule.h"
#include "train/trainer_ops.h"

#include "runner.h" /* last */

enum { N_SHAPES = 7, TIMEOUT_S = 1800 };

struct bench_shape {
    int d_model, n_layer, d_inner, d_state, d_conv, dt_rank, n_windows, n_t;
    bool has_norm_bias, is_tied;
};

static const struct bench_shape shapes[N_SHAPES] = {
    {12, 2, 20, 4, 2, 1, 3, 37, false, false},
    {20, 1, 36, 8, 3, 5, 1, 50, true, false},
    {68, 2, 44, 32, 8, 7, 2, 33, false, true},
    {132, 2, 268, 16, 4, 9, 5, 70, false, false},
    {36, 1, 52, 64, 4, 3, 2, 21, true, true},
    {1100, 1, 300, 16, 4, 11, 1, 19, false, false},
    {64, 3, 128, 16, 4, 4, 2, 150, false, false},
};

static struct model_config config_of(int i)
{
    const struct bench_shape *s = &shapes[i];
    return (struct model_config){
        .d_model = s->d_model,
        .n_layer = s->n_layer,
        .d_inner = s->d_inner,
        .d_state = s->d_state,
        .d_conv = s->d_conv,
        .dt_rank = s->dt_rank,
        .has_norm_bias = s->has_norm_bias,
        .is_tied = s->is_tied,
        .begin_byte = 0,
        .norm_epsilon = 1e-5f,
    };
}

/* ---- a run ----------------------------------------------------------------
 */

struct bench {
    struct parameters parameters;
    float *weights; /* [n_floats]         */
    uint8_t *bytes; /* [windows][n_t + 1] */
    bool *begins;   /* [windows]          */
    struct windows windows;
};

static void assert_ok(enum status status)
{
    ck_assert_msg(status == OK, "%s", status_message());
}

static void *zeros(size_t n, size_t size)
{
    void *x = calloc(n, size);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* Far from where gradients vanish or are alike. */
static void open_bench(struct bench *b, const struct model_config *config,
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

static void close_bench(struct bench *b)
{
    parameters_close(&b->parameters);
    free(b->weights);
    free(b->bytes);
    free(b->begins);
}

/* Step 0 begins all streams, later ones every third. */
static void draw_windows(struct bench *b, int step)
{
    size_t n = (size_t)b->windows.n * ((size_t)b->windows.n_t + 1);
    for (size_t i = 0; i < n; i++)
        b->bytes[i] = (uint8_t)(random_at((uint64_t)step, i) % 23);
    for (int i = 0; i < b->windows.n; i++)
        b->begins[i] = step == 0 || i % 3 == 2;
}

static struct trainer *open_trainer(struct bench *b,
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

static float *part_of(struct trainer *t, enum trainer_part part)
{
    float *x = zeros(trainer_part_floats(t, part), sizeof *x);
    assert_ok(trainer_get(t, part, x));
    return x;
}

static double gradient_step(struct trainer *t, struct bench *b, int step)
{
    struct step result;
    draw_windows(b, step);
    assert_ok(trainer_gradient(t, &result, &b->windows));
    ck_assert(isfinite(result.loss) && isfinite(result.gradient_norm));
    return result.loss;
}

static double whole_step(struct trainer *t, struct bench *b, int step)
{
    struct update update = {1e-3, 0.5, 0.05, (uint64_t)step + 1};
    double loss = gradient_step(t, b, step);
    assert_ok(trainer_update(t, &update));
    return loss;
}

/* |a - b| / |b| */
static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(sum / (size + 1e-30));
}

/* ---- gradients ------------------------------------------------------------
 */

/* Of the second step, whose streams go on from states.  What AdamW updates is
 * a tenth of it, which no comparison sees. */
static float *second_gradient(const struct trainer_options *options,
                              struct bench *b, double *loss, float **states)
{
    struct trainer *t = open_trainer(b, options);
    struct update still = {0, 1, 0, 1};
    gradient_step(t, b, 0);
    *loss = gradient_step(t, b, 1);
    assert_ok(trainer_update(t, &still));
    float *gradient = part_of(t, PART_MOMENT_1);
    *states = part_of(t, PART_STATES);
    trainer_close(t);
    return gradient;
}

static void compare(int i, bool imitates, bool in_float, double tolerance)
{
    struct bench b;
    struct model_config config = config_of(i);
    struct trainer_options cpu = {.imitates_int8 = imitates,
                                  .device = DEVICE_CPU};
    const struct trainer_tuning tuning = {.products_in_float = in_float};
    struct trainer_options gpu = {
        .imitates_int8 = imitates, .device = DEVICE_CUDA, .tuning = &tuning};
    double loss, want_loss;
    float *states, *want_states;
    open_bench(&b, &config, shapes[i].n_windows, shapes[i].n_t);
    float *want = second_gradient(&cpu, &b, &want_loss, &want_states);
    float *have = second_gradient(&gpu, &b, &loss, &states);
    ck_assert_double_eq_tol(loss, want_loss, 0.1 * tolerance * want_loss);
    double worst = 0;
    for (size_t k = 0; k < b.parameters.n; k++) {
        const struct parameter *p = &b.parameters.list[k];
        double d = distance(have + p->offset, want + p->offset, p->n);
        worst = d > worst ? d : worst;
        ck_assert_msg(d < tolerance, "shape %d: %s is off by %.2e", i, p->name,
                      d);
    }
    size_t n = (size_t)shapes[i].n_windows * trainer_state_floats(&config);
    double d = distance(states, want_states, n);
    ck_assert_msg(d < tolerance, "shape %d: states are off by %.2e", i, d);
    if (getenv("MAMBYTE_SLOW"))
        printf("shape %d%s%s: gradients %.1e, states %.1e, loss %.1e\n", i,
               imitates ? ", imitated" : "", in_float ? ", float" : "", worst,
               d, fabs(loss - want_loss));
    close_bench(&b);
    free(want);
    free(have);
    free(states);
    free(want_states);
}

START_TEST(gradients_agree)
{
    compare(_i, false, true, 2e-5);
}
END_TEST

/* A number that is rounded the other way moves all that follows. */
START_TEST(imitated_gradients_agree)
{
    compare(_i, true, true, 3e-2);
}
END_TEST

START_TEST(gradients_in_bf16_are_near)
{
    compare(_i, false, false, 6e-2);
}
END_TEST

START_TEST(imitated_gradients_in_bf16_are_near)
{
    compare(_i, true, false, 1e-1);
}
END_TEST

/* ---- the recorded run (check_trainer.c) -----------------------------------
 */

enum { WINDOWS = 4, BYTES = 96, STEPS = 40, BATCH = WINDOWS * (BYTES + 1) };

static const struct model_config reference_shape = {
    .d_model = 32,
    .n_layer = 2,
    .d_inner = 64,
    .d_state = 16,
    .d_conv = 4,
    .dt_rank = 2,
    .begin_byte = -1,
    .norm_epsilon = 1e-5f,
};

static const char *data_path(char path[512], const char *name)
{
    const char *srcdir = getenv("srcdir");
    snprintf(path, 512, "%s/tests/data/train/%s", srcdir ? srcdir : ".", name);
    return path;
}

static void load(const struct parameters *p, float *x, const char *name)
{
    char path[512];
    struct safetensors *file;
    assert_ok(safetensors_open(&file, data_path(path, name)));
    assert_ok(parameters_load(p, x, file, ""));
    safetensors_close(file);
}

static void follow(struct trainer *t, double tolerance)
{
    static uint8_t bytes[STEPS][BATCH];
    const bool begins[WINDOWS] = {true, true, true, true};
    const struct schedule schedule = {2e-3, 10, 0.35};
    char path[512], header[256];
    FILE *run = fopen(data_path(path, "run.tsv"), "r");
    ck_assert_ptr_nonnull(run);
    ck_assert_ptr_nonnull(fgets(header, sizeof header, run));
    FILE *in = fopen(data_path(path, "batches.bin"), "rb");
    ck_assert_ptr_nonnull(in);
    ck_assert_uint_eq(fread(bytes, BATCH, STEPS, in), STEPS);
    fclose(in);
    for (int i = 0; i < STEPS; i++) {
        int index;
        double loss, norm, rate;
        struct step step;
        struct windows windows = {WINDOWS, BYTES, bytes[i], begins};
        ck_assert_int_eq(
            fscanf(run, "%d %lf %lf %lf", &index, &loss, &norm, &rate), 4);
        assert_ok(trainer_gradient(t, &step, &windows));
        ck_assert_double_eq_tol(step.loss, loss, tolerance);
        ck_assert_double_eq_tol(step.gradient_norm, norm,
                                10 * tolerance * norm);
        double scale = 1 / (step.gradient_norm + 1e-6);
        struct update update = {
            .learning_rate =
                schedule_rate(&schedule, (uint64_t)i, (double)i / STEPS),
            .gradient_scale = scale < 1 ? scale : 1,
            .weight_decay = 0.05,
            .n = (uint64_t)i + 1,
        };
        assert_ok(trainer_update(t, &update));
    }
    fclose(run);
}

/* Where the weights went, tensor by tensor, in shares of how far. */
static void check_final(const struct bench *b, struct trainer *t, double share)
{
    const struct parameters *p = &b->parameters;
    float *expected = zeros(p->n_floats, sizeof *expected);
    float *actual = part_of(t, PART_WEIGHTS);
    load(p, expected, "final.safetensors");
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

START_TEST(forty_steps_are_those_of_the_reference)
{
    struct bench b;
    bool in_float = _i == 1;
    const struct trainer_tuning tuning = {.products_in_float = in_float};
    struct trainer_options options = {
        .imitates_int8 = true, .device = DEVICE_CUDA, .tuning = &tuning};
    open_bench(&b, &reference_shape, WINDOWS, BYTES);
    load(&b.parameters, b.weights, "init.safetensors");
    struct trainer *t = open_trainer(&b, &options);
    follow(t, in_float ? 2e-3 : 1e-2);
    check_final(&b, t, in_float ? 0.1 : 0.35);
    trainer_close(t);
    close_bench(&b);
}
END_TEST

/* ---- the same bits, near ones, and other hardware --------------------------
 */

/* Weights, moments and states after some steps. */
static float *run_of(const struct trainer_options *options, struct bench *b,
                     int n_steps, enum trainer_part part, double *loss)
{
    struct trainer *t = open_trainer(b, options);
    for (int i = 0; i < n_steps; i++)
        *loss = whole_step(t, b, i);
    float *x = part_of(t, part);
    trainer_close(t);
    return x;
}

START_TEST(every_run_has_the_same_bits)
{
    struct bench b;
    struct model_config config = config_of(3);
    struct trainer_options once = {.imitates_int8 = true,
                                   .device = DEVICE_CUDA};
    const struct trainer_tuning tuning = {.recomputes = true};
    struct trainer_options twice = once;
    twice.tuning = &tuning;
    open_bench(&b, &config, 5, 70);
    for (int part = 0; part < N_PARTS; part++) {
        double loss[3];
        float *x = run_of(&once, &b, 3, (enum trainer_part)part, loss);
        float *y = run_of(&once, &b, 3, (enum trainer_part)part, loss + 1);
        float *z = run_of(&twice, &b, 3, (enum trainer_part)part, loss + 2);
        size_t n = b.parameters.n_floats;
        if (part == PART_STATES)
            n = 5 * trainer_state_floats(&config);
        ck_assert_msg(memcmp(x, y, n * sizeof *x) == 0, "part %d", part);
        ck_assert_msg(memcmp(x, z, n * sizeof *x) == 0, "part %d, twice", part);
        ck_assert(loss[0] == loss[1] && loss[0] == loss[2]);
        free(x);
        free(y);
        free(z);
    }
    close_bench(&b);
}
END_TEST

START_TEST(a_run_goes_on_elsewhere)
{
    struct bench b;
    struct model_config config = config_of(6);
    struct trainer_options options = {.imitates_int8 = true,
                                      .device = DEVICE_CUDA};
    open_bench(&b, &config, 2, 150);
    struct trainer *gpu = open_trainer(&b, &options);
    options.device = DEVICE_CPU;
    struct trainer *cpu = open_trainer(&b, &options);
    for (int i = 0; i < 3; i++)
        whole_step(gpu, &b, i);
    for (int part = 0; part < N_PARTS; part++) {
        float *x = part_of(gpu, (enum trainer_part)part);
        assert_ok(trainer_set(cpu, (enum trainer_part)part, x));
        free(x);
    }
    for (int i = 3; i < 6; i++) {
        double want = whole_step(cpu, &b, i);
        ck_assert_double_eq_tol(whole_step(gpu, &b, i), want, 5e-3 * want);
    }
    trainer_close(gpu);
    trainer_close(cpu);
    close_bench(&b);
}
END_TEST

/* Five windows: one GPU has more than the other. */
START_TEST(two_gpus_do_what_one_does)
{
    struct bench b;
    struct model_config config = config_of(3);
    const struct trainer_tuning tuning = {.products_in_float = true};
    struct trainer_options one = {
        .imitates_int8 = true, .device = DEVICE_CUDA, .tuning = &tuning};
    struct trainer_options two = one;
    struct trainer *t;
    two.n_gpus = 2;
    two.n_windows = 5;
    two.n_t = 70;
    open_bench(&b, &config, 5, 70);
    if (trainer_open(&t, &b.parameters, &two) != OK) {
        printf("one GPU alone: %s\n", status_message());
        close_bench(&b);
        return;
    }
    trainer_close(t);
    double want_loss, loss;
    for (int part = 0; part < N_PARTS; part++) {
        float *want = run_of(&one, &b, 2, (enum trainer_part)part, &want_loss);
        float *have = run_of(&two, &b, 2, (enum trainer_part)part, &loss);
        size_t n = b.parameters.n_floats;
        if (part == PART_STATES)
            n = 5 * trainer_state_floats(&config);
        double d = distance(have, want, n);
        ck_assert_msg(d < 1e-2, "part %d is off by %.2e", part, d);
        ck_assert_double_eq_tol(loss, want_loss, 1e-3);
        free(want);
        free(have);
    }
    close_bench(&b);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    struct bench b;
    struct model_config config = {.d_model = 512,
                                  .n_layer = 16,
                                  .d_inner = 1024,
                                  .d_state = 16,
                                  .d_conv = 4,
                                  .dt_rank = 32,
                                  .norm_epsilon = 1e-5f};
    struct trainer *t;
    struct trainer_options options = {.n_windows = 1000,
                                      .n_t = 1 << 18,
                                      .imitates_int8 = true,
                                      .device = DEVICE_CUDA};
    open_bench(&b, &config, 1, 1);
    ck_assert_int_eq(trainer_open(&t, &b.parameters, &options), E_MEMORY);
    ck_assert_ptr_nonnull(strstr(status_message(), "the GPU has "));
    options.n_windows = 1;
    options.n_gpus = 2;
    options.cuda_index = 1000;
    ck_assert_int_eq(trainer_open(&t, &b.parameters, &options), E_DEVICE);
    close_bench(&b);
}
END_TEST

static Suite *trainer_suite(void)
{
    Suite *suite = suite_create("cuda_trainer");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, TIMEOUT_S);
    tcase_add_loop_test(tests, gradients_agree, 0, N_SHAPES);
    tcase_add_loop_test(tests, imitated_gradients_agree, 0, N_SHAPES);
    tcase_add_loop_test(tests, gradients_in_bf16_are_near, 0, N_SHAPES);
    tcase_add_loop_test(tests, imitated_gradients_in_bf16_are_near, 0,
                        N_SHAPES);
    tcase_add_loop_test(tests, forty_steps_are_those_of_the_reference, 0, 2);
    tcase_add_test(tests, every_run_has_the_same_bits);
    tcase_add_test(tests, a_run_goes_on_elsewhere);
    tcase_add_test(tests, two_gpus_do_what_one_does);
    tcase_add_test(tests, what_does_not_fit_is_refused);
    suite_add_tcase(suite, tests);
    return suite;
}

/* Whether a trainer opens on a GPU at all; if not, the sentence says why. */
static bool has_gpu(void)
{
    struct parameters p;
    struct model_config config = config_of(0);
    struct trainer_options options = {
        .n_windows = 1, .n_t = 1, .device = DEVICE_CUDA};
    struct trainer *t;
    if (parameters_open(&p, &config) != OK)
        return false;
    bool has = trainer_open(&t, &p, &options) == OK;
    trainer_close(t);
    parameters_close(&p);
    return has;
}

int main(void)
{
    if (!has_gpu()) {
        fprintf(stderr, "check_cuda_trainer: %s\n", status_message());
        return getenv("MAMBYTE_REQUIRE_GPU") ? 1 : 77;
    }
    return run_suite_here(trainer_suite());
}

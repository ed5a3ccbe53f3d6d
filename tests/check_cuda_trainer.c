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

#include "recorded_run.h"

#include "runner.h" /* last */

enum { N_SHAPES = 7, N_FEW_SHAPES = 3, TIMEOUT_S = 1800 };

struct shape {
    int d_model, n_layer, d_inner, d_state, d_conv, dt_rank, n_windows, n_t;
    bool has_norm_bias, is_tied;
};

static const struct shape shapes[N_SHAPES] = {
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
    const struct shape *s = &shapes[i];
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

/* ---- gradients ------------------------------------------------------------
 */

/* Of the second step, whose streams go on from states.  What AdamW updates is
 * a tenth of it, which no comparison sees. */
static float *second_gradient(const struct trainer_options *options,
                              struct bench *b, double *loss, float **states)
{
    struct trainer *t = bench_trainer(b, options);
    struct update still = {0, 1, 0, 1};
    bench_gradient(t, b, 0);
    *loss = bench_gradient(t, b, 1);
    assert_ok(trainer_update(t, &still));
    float *gradient = bench_part(t, PART_MOMENT_1);
    *states = bench_part(t, PART_STATES);
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
    bench_open(&b, &config, shapes[i].n_windows, shapes[i].n_t);
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
    bench_close(&b);
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

/* ---- the recorded run -----------------------------------------------------
 */

START_TEST(forty_steps_are_those_of_the_reference)
{
    const struct recorded_tolerance in_float = {2e-3, 2e-2, 0.1};
    const struct recorded_tolerance in_bf16 = {1e-2, 1e-1, 0.35};
    const struct trainer_tuning tuning = {.products_in_float = _i == 1};
    struct trainer_options options = {
        .imitates_int8 = true, .device = DEVICE_CUDA, .tuning = &tuning};
    recorded_check(&recorded_runs[RECORDED_MAMBA1], &options,
                   _i == 1 ? in_float : in_bf16);
}
END_TEST

/* ---- the same bits, near ones, and other hardware --------------------------
 */

START_TEST(every_run_has_the_same_bits)
{
    struct bench b;
    struct model_config config = config_of(3);
    struct trainer_options options = {.imitates_int8 = true,
                                      .device = DEVICE_CUDA};
    bench_open(&b, &config, 5, 70);
    bench_check_bits(&b, &options);
    bench_close(&b);
}
END_TEST

START_TEST(a_run_goes_on_elsewhere)
{
    struct bench b;
    struct model_config config = config_of(6);
    struct trainer_options options = {.imitates_int8 = true,
                                      .device = DEVICE_CUDA};
    bench_open(&b, &config, 2, 150);
    struct trainer *gpu = bench_trainer(&b, &options);
    options.device = DEVICE_CPU;
    struct trainer *cpu = bench_trainer(&b, &options);
    for (int i = 0; i < 3; i++)
        bench_step(gpu, &b, i);
    for (int part = 0; part < N_PARTS; part++) {
        float *x = bench_part(gpu, (enum trainer_part)part);
        assert_ok(trainer_set(cpu, (enum trainer_part)part, x));
        free(x);
    }
    for (int i = 3; i < 6; i++) {
        double want = bench_step(cpu, &b, i);
        ck_assert_double_eq_tol(bench_step(gpu, &b, i), want, 5e-3 * want);
    }
    trainer_close(gpu);
    trainer_close(cpu);
    bench_close(&b);
}
END_TEST

/* Five windows: one GPU has more than the other. */
START_TEST(two_gpus_do_what_one_does)
{
    struct bench b;
    struct model_config config = config_of(3);
    const struct trainer_tuning tuning = {.products_in_float = true};
    struct trainer_options options = {
        .imitates_int8 = true, .device = DEVICE_CUDA, .tuning = &tuning};
    bench_open(&b, &config, 5, 70);
    bench_check_two_gpus(&b, &options);
    bench_close(&b);
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
    bench_open(&b, &config, 1, 1);
    ck_assert_int_eq(trainer_open(&t, &b.parameters, &options), E_MEMORY);
    ck_assert_ptr_nonnull(strstr(status_message(), "the GPU has "));
    options.n_windows = 1;
    options.n_gpus = 2;
    options.cuda_index = 1000;
    ck_assert_int_eq(trainer_open(&t, &b.parameters, &options), E_DEVICE);
    bench_close(&b);
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

    /* For memory checkers. */
    TCase *few = tcase_create("few");
    tcase_set_timeout(few, TIMEOUT_S);
    tcase_add_loop_test(few, imitated_gradients_agree, 0, N_FEW_SHAPES);
    tcase_add_loop_test(few, gradients_in_bf16_are_near, 0, N_FEW_SHAPES);
    tcase_add_test(few, every_run_has_the_same_bits);
    suite_add_tcase(suite, few);
    return suite;
}

int main(void)
{
    struct model_config config = config_of(0);
    if (!trainer_has_gpu(&config))
        return end_without_gpu("check_cuda_trainer", status_message());
    return run_suite_here(trainer_suite());
}

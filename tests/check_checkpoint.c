/* check_checkpoint.c -- a run that is resumed goes on as if it had not been
 * interrupted, a damaged checkpoint is refused, and a finished model holds
 * what was trained.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "train/checkpoint.h"
#include "train/export.h"
#include "train/trainer_ops.h"

#include "runner.h" /* last */

enum { WINDOWS = 2, BYTES = 24 };

static const struct model_config shape = {
    .d_model = 20,
    .n_layer = 2,
    .d_inner = 24,
    .d_state = 4,
    .d_conv = 3,
    .dt_rank = 3,
    .has_norm_bias = true,
    .begin_byte = 0,
    .norm_epsilon = 1e-5f,
};

/* ---- a run -------------------------------------------------------------- */

struct run {
    struct parameters parameters;
    struct trainer *trainer;
};

static void open_run(struct run *run, const struct model_config *config)
{
    struct trainer_options options = {
        .n_windows = WINDOWS,
        .n_t = BYTES,
        .imitates_int8 = true,
        .n_threads = 1,
    };
    ck_assert_int_eq(parameters_open(&run->parameters, config), OK);
    ck_assert_int_eq(
        cpu_trainer_open(&run->trainer, &run->parameters, &options), OK);
}

static void close_run(struct run *run)
{
    trainer_close(run->trainer);
    parameters_close(&run->parameters);
}

static void begin_run(struct run *run)
{
    float *weights = calloc(run->parameters.n_floats, sizeof *weights);
    parameters_init(&run->parameters, weights, 4);
    ck_assert_int_eq(trainer_set(run->trainer, PART_WEIGHTS, weights), OK);
    free(weights);
}

/* The loss of a step, whose windows go on from those of the last. */
static double make_step(struct run *run, uint64_t index)
{
    struct trainer *t = run->trainer;
    uint8_t bytes[WINDOWS * (BYTES + 1)];
    bool begins[WINDOWS] = {index == 0, index == 0};
    struct windows windows = {WINDOWS, BYTES, bytes, begins};
    struct update update = {0.01, 1, 0.05, index + 1};
    struct step step;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(random_at(index, i) % 7);
    ck_assert_int_eq(trainer_gradient(t, &step, &windows), OK);
    ck_assert_int_eq(trainer_update(t, &update), OK);
    return step.loss;
}

/* A checkpoint after three steps; the losses of the next three. */
static const struct progress three_steps = {3, 144, 1.5, 6.25};

static void make_checkpoint(const char *path, double losses[3])
{
    struct run run;
    open_run(&run, &shape);
    begin_run(&run);
    for (uint64_t i = 0; i < 3; i++)
        make_step(&run, i);
    ck_assert_msg(
        checkpoint_save(path, run.trainer, &three_steps, "a \"run\"") == OK,
        "%s", status_message());
    for (uint64_t i = 0; i < 3; i++)
        losses[i] = make_step(&run, 3 + i);
    close_run(&run);
}

static char path[64];

static void make_path(void)
{
    snprintf(path, sizeof path, "/tmp/check_checkpoint.%ld", (long)getpid());
}

static void remove_path(void)
{
    unlink(path);
}

/* ---- checkpoints -------------------------------------------------------- */

START_TEST(a_resumed_run_has_the_same_losses)
{
    struct run run;
    struct progress progress;
    double losses[3];
    make_checkpoint(path, losses);
    open_run(&run, &shape);
    ck_assert_msg(checkpoint_load(path, run.trainer, &progress, "a \"run\"") ==
                      OK,
                  "%s", status_message());
    ck_assert_uint_eq(progress.step, 3);
    ck_assert_uint_eq(progress.n_bytes, 144);
    ck_assert_double_eq(progress.seconds, 1.5);
    ck_assert_double_eq(progress.bits_per_byte, 6.25);
    for (uint64_t i = 0; i < 3; i++)
        ck_assert_double_eq(make_step(&run, 3 + i), losses[i]);
    close_run(&run);
}
END_TEST

static void assert_refused(const char *run_name,
                           const struct model_config *config)
{
    struct run run;
    struct progress progress;
    open_run(&run, config);
    enum status status =
        checkpoint_load(path, run.trainer, &progress, run_name);
    ck_assert_msg(status != OK, "a wrong checkpoint was taken");
    ck_assert_msg(strncmp(status_message(), path, strlen(path)) == 0, "%s",
                  status_message());
    close_run(&run);
}

START_TEST(another_run_is_refused)
{
    double losses[3];
    make_checkpoint(path, losses);
    assert_refused("another", &shape);
    ck_assert_ptr_nonnull(strstr(status_message(),
                                 "the checkpoint is of another run: of "
                                 "'a \"run\"', not 'another'"));
}
END_TEST

START_TEST(another_shape_is_refused)
{
    double losses[3];
    struct model_config other = shape;
    make_checkpoint(path, losses);
    other.dt_rank = 4;
    assert_refused("a \"run\"", &other);
}
END_TEST

static uint8_t *read_file(size_t *n)
{
    FILE *in = fopen(path, "rb");
    ck_assert_ptr_nonnull(in);
    fseek(in, 0, SEEK_END);
    *n = (size_t)ftell(in);
    rewind(in);
    uint8_t *bytes = malloc(*n);
    ck_assert_uint_eq(fread(bytes, 1, *n, in), *n);
    fclose(in);
    return bytes;
}

static void write_file(const uint8_t *bytes, size_t n)
{
    FILE *out = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(bytes, 1, n, out), n);
    ck_assert_int_eq(fclose(out), 0);
}

/* Flips here and there, more of them in the header; and cuts. */
START_TEST(damage_is_noticed)
{
    double losses[3];
    size_t n;
    make_checkpoint(path, losses);
    uint8_t *bytes = read_file(&n);
    for (size_t i = 0; i < 160; i++) {
        uint64_t random = random_at(1, i);
        size_t at = (size_t)(random % (i % 2 ? n : 4000));
        uint8_t bit = (uint8_t)(1 << (random >> 60) % 8);
        bytes[at] ^= bit;
        write_file(bytes, n);
        bytes[at] ^= bit;
        assert_refused("a \"run\"", &shape);
    }
    for (size_t cut = 1; cut < n; cut = 3 * cut + 1) {
        write_file(bytes, n - cut);
        assert_refused("a \"run\"", &shape);
    }
    free(bytes);
}
END_TEST

/* A full disk leaves the old checkpoint, and nothing beside it. */
START_TEST(a_failure_keeps_what_was_there)
{
    struct run run;
    open_run(&run, &shape);
    ck_assert_int_eq(
        checkpoint_save("/dev/full", run.trainer, &three_steps, "x"), E_IO);
    ck_assert_str_eq(status_message(), "/dev/full: No space left on device");
    ck_assert_int_eq(
        checkpoint_save("/nowhere/x", run.trainer, &three_steps, "x"), E_IO);
    ck_assert_str_eq(status_message(), "/nowhere/x: No such file or directory");
    close_run(&run);
}
END_TEST

/* ---- finished models ---------------------------------------------------- */

START_TEST(a_finished_model_is_near_its_weights)
{
    static const struct metadata metadata[] = {{"trained_by", "a \\ \"test\""}};
    struct provenance provenance = {metadata, 1};
    struct model_config config = shape;
    struct parameters p;
    struct model *model;
    config.is_tied = _i & 1;
    config.has_norm_bias = _i & 2;
    config.begin_byte = _i & 1 ? -1 : 7;
    ck_assert_int_eq(parameters_open(&p, &config), OK);
    float *weights = calloc(2 * p.n_floats, sizeof *weights);
    float *back = weights + p.n_floats;
    parameters_init(&p, weights, 4);
    ck_assert_msg(export_file(path, &p, weights, &provenance) == OK, "%s",
                  status_message());
    ck_assert_msg(model_open(&model, path) == OK, "%s", status_message());
    ck_assert_mem_eq(&model->config.begin_byte, &config.begin_byte,
                     sizeof(int));
    ck_assert_float_eq(model->config.norm_epsilon, config.norm_epsilon);
    ck_assert_str_eq(safetensors_metadata(model->file, "trained_by"),
                     "a \\ \"test\"");
    ck_assert_int_eq(parameters_load(&p, back, model->file, ""), OK);
    for (size_t i = 0; i < p.n_floats; i++)
        ck_assert_float_eq_tol(back[i], weights[i], 0.01f);
    model_close(model);
    free(weights);
    parameters_close(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *files = tcase_create("files");
    tcase_set_timeout(files, 60);
    tcase_add_checked_fixture(files, make_path, remove_path);
    tcase_add_test(files, a_resumed_run_has_the_same_losses);
    tcase_add_test(files, another_run_is_refused);
    tcase_add_test(files, another_shape_is_refused);
    tcase_add_test(files, damage_is_noticed);
    tcase_add_test(files, a_failure_keeps_what_was_there);
    tcase_add_loop_test(files, a_finished_model_is_near_its_weights, 0, 4);
    suite_add_tcase(suite, files);
    return run_suite(suite);
}

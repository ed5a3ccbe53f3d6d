/* bench_train.c -- the speed of training on a GPU beside that of the chip.
 *
 * usage: bench_train [SHAPE:WINDOWSxLENGTH[:GPUS[:none]]]...
 *
 * SHAPE is 5M, 27M or 353M, or D_MODELxLAYERS, of Mamba-1; with m2- before it
 * of Mamba-2, d_state 64 and heads of 64.  none: without imitation of int8. CSV
 * on stdout, a line for each: bytes a second of whole steps, optimiser
 * included, on random bytes; the limit is what the chip would need for the
 * products alone, at the rate of a large one measured in this run.
 *
 * Then, for each, a line for each kind of kernel: its time in a step, and its
 * share of the step in place of that of the limit.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "train/trainer_ops.h"

enum { N_TURNS = 8, SKIPPED = 2, TEXT_CHARS = 160 };

struct run {
    int d_model, n_layer, n_windows, n_t, n_gpus;
    bool imitates, is_mamba2;
};

static void require(bool is_fine, const char *what)
{
    if (is_fine)
        return;
    fprintf(stderr, "bench_train: %s: %s\n", what, status_message());
    exit(1);
}

static struct model_config config_of(const struct run *run)
{
    if (run->is_mamba2)
        return (struct model_config){
            .mixer = MIXER_MAMBA2,
            .d_model = run->d_model,
            .n_layer = run->n_layer,
            .d_inner = 2 * run->d_model,
            .d_state = 64,
            .d_conv = 4,
            .n_heads = 2 * run->d_model / 64,
            .headdim = 64,
            .n_groups = 1,
            .delta_max = INFINITY,
            .norm_epsilon = 1e-5f,
        };
    return (struct model_config){
        .d_model = run->d_model,
        .n_layer = run->n_layer,
        .d_inner = 2 * run->d_model,
        .d_state = 16,
        .d_conv = 4,
        .dt_rank = (run->d_model + 15) / 16,
        .norm_epsilon = 1e-5f,
    };
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void step(struct trainer *t, const struct windows *windows, int i)
{
    struct step result;
    struct update update = {1e-5, 1, 0.05, (uint64_t)i + 1};
    require(trainer_gradient(t, &result, windows) == OK, "gradient");
    require(isfinite(result.loss), "loss");
    require(trainer_update(t, &update) == OK, "update");
}

/* The median time of a step. */
static double seconds(struct trainer *t, const struct windows *windows)
{
    double turn[N_TURNS], last = clock_now();
    struct trainer_time times[TRAINER_TIMES];
    for (int i = 0; i < N_TURNS; i++) {
        if (i == SKIPPED) /* the first load kernels: forget their times */
            require(cuda_trainer_times(t, times) == OK, "times");
        step(t, windows, i);
        double now = clock_now();
        turn[i] = now - last;
        last = now;
    }
    qsort(turn + SKIPPED, N_TURNS - SKIPPED, sizeof turn[0], by_value);
    return turn[SKIPPED + (N_TURNS - SKIPPED) / 2];
}

static void report_times(const char *name, struct trainer *t, double s)
{
    char text[TEXT_CHARS];
    struct trainer_time times[TRAINER_TIMES];
    require(cuda_trainer_times(t, times) == OK, "times");
    trainer_describe(t, text);
    for (int i = 0; i < TRAINER_TIMES; i++) {
        double part = times[i].seconds / (N_TURNS - SKIPPED);
        printf("\"%s\",%s,%s,%.2f,,,%.3f\n", text, name, times[i].name,
               1e3 * part, part / s);
    }
}

static void report(const char *name, const struct run *run, struct trainer *t,
                   double s)
{
    char text[TEXT_CHARS];
    double n_bytes = (double)run->n_windows * run->n_t;
    double limit = t->peak / (6.0 * (double)t->parameters->n_floats);
    trainer_describe(t, text);
    printf("\"%s\",%s,step,%.1f,%.0f,%.0f,%.3f\n", text, name, 1e3 * s,
           n_bytes / s, limit, limit > 0 ? n_bytes / s / limit : 0.0);
    fflush(stdout);
}

static void bench(const char *name, const struct run *run)
{
    struct parameters p;
    struct trainer *t;
    struct model_config config = config_of(run);
    const struct trainer_tuning tuning = {.measures = true};
    struct trainer_options options = {
        .n_windows = run->n_windows,
        .n_t = run->n_t,
        .imitates_int8 = run->imitates,
        .device = DEVICE_CUDA,
        .n_gpus = run->n_gpus,
        .tuning = &tuning,
    };
    size_t n_bytes = (size_t)run->n_windows * ((size_t)run->n_t + 1);
    require(parameters_open(&p, &config) == OK, "shape");
    float *weights = malloc(p.n_floats * sizeof *weights);
    uint8_t *bytes = malloc(n_bytes);
    bool *begins = calloc((size_t)run->n_windows, sizeof *begins);
    require(weights && bytes && begins, "memory");
    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(random_at(7, i) >> 56);
    parameters_init(&p, weights, 1);
    if (trainer_open(&t, &p, &options) != OK) {
        fprintf(stderr, "bench_train: %s: %s\n", name, status_message());
    } else {
        struct windows windows = {run->n_windows, run->n_t, bytes, begins};
        require(trainer_set(t, PART_WEIGHTS, weights) == OK, "weights");
        double s = seconds(t, &windows);
        report(name, run, t, s);
        report_times(name, t, s);
        trainer_close(t);
    }
    parameters_close(&p);
    free(weights);
    free(bytes);
    free(begins);
}

/* false when the text is none of those above. */
static bool parse(struct run *run, const char *text)
{
    static const struct {
        const char *name, *shape;
    } names[] = {
        {"5M:", "256x10:"}, {"27M:", "512x16:"}, {"353M:", "1024x53:"}};
    char full[TEXT_CHARS], last[8] = "";
    run->is_mamba2 = strncmp(text, "m2-", 3) == 0;
    text += run->is_mamba2 ? 3 : 0;
    snprintf(full, sizeof full, "%s", text);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i].name);
        if (strncmp(text, names[i].name, n) == 0)
            snprintf(full, sizeof full, "%s%s", names[i].shape, text + n);
    }
    run->n_gpus = 1;
    int n = sscanf(full, "%dx%d:%dx%d:%d:%7s", &run->d_model, &run->n_layer,
                   &run->n_windows, &run->n_t, &run->n_gpus, last);
    run->imitates = strcmp(last, "none") != 0;
    return n >= 4;
}

int main(int argc, char **argv)
{
    static char *usual[] = {"5M:32x4096", "27M:32x4096", "353M:8x2048",
                            "353M:16x4096", NULL};
    struct run run;
    puts("device,run,part,ms,bytes_per_s,limit_bytes_per_s,share");
    for (char **text = argc > 1 ? argv + 1 : usual; *text; text++) {
        require(parse(&run, *text), *text);
        bench(*text, &run);
    }
    return 0;
}

/* cpu_trainer.c -- a trainer on the CPU.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train_kernels.h"
#include "base/text.h"
#include "train/adamw.h"
#include "train/backward.h"
#include "train/muon.h"
#include "train/trainer_ops.h"

struct cpu_trainer {
    struct trainer base;
    struct threads *team;
    struct backward *backward;
    struct muon *muon;
    float *arrays; /* owned: what follows, [n_floats] each */
    float *weights, *moment_1, *moment_2, *gradient;
};

static struct cpu_trainer *cpu_trainer(struct trainer *trainer)
{
    return (struct cpu_trainer *)trainer;
}

/* ---- trainer_ops -------------------------------------------------------- */

static double norm_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static enum status cpu_gradient(struct trainer *trainer, struct step *step,
                                const struct windows *windows)
{
    struct cpu_trainer *t = cpu_trainer(trainer);
    step->loss = backward_run(t->backward, t->gradient, t->weights, windows);
    step->gradient_norm = norm_of(t->gradient, trainer->parameters->n_floats);
    return OK;
}

static enum status cpu_update(struct trainer *trainer,
                              const struct update *update)
{
    struct cpu_trainer *t = cpu_trainer(trainer);
    for (size_t i = 0; i < trainer->parameters->n; i++) {
        const struct parameter *p = &trainer->parameters->list[i];
        if (p->muon_parts > 0)
            muon_update(t->muon, p, t->weights, t->moment_1, t->gradient,
                        update);
        adamw_update(p, t->weights, t->moment_1, t->moment_2, t->gradient,
                     update);
    }
    return OK;
}

static float *part_of(struct cpu_trainer *t, enum trainer_part part)
{
    switch (part) {
    case PART_WEIGHTS:
        return t->weights;
    case PART_MOMENT_1:
        return t->moment_1;
    case PART_MOMENT_2:
        return t->moment_2;
    default:
        return backward_states(t->backward);
    }
}

static enum status cpu_get(struct trainer *trainer, enum trainer_part part,
                           float *host)
{
    memcpy(host, part_of(cpu_trainer(trainer), part),
           trainer_part_floats(trainer, part) * sizeof *host);
    return OK;
}

static enum status cpu_set(struct trainer *trainer, enum trainer_part part,
                           const float *host)
{
    memcpy(part_of(cpu_trainer(trainer), part), host,
           trainer_part_floats(trainer, part) * sizeof *host);
    return OK;
}

static void cpu_describe(const struct trainer *trainer, char text[160])
{
    const struct cpu_trainer *t = (const struct cpu_trainer *)trainer;
    int n = threads_count(t->team);
    size_t arrays = 4 * trainer->parameters->n_floats * sizeof(float);
    size_t n_bytes = arrays + backward_bytes(t->backward);
    snprintf(text, 160, "cpu %s, %d thread%s, %zu MB",
             train_kernels_find()->name, n, text_plural((uint64_t)n),
             n_bytes >> 20);
}

static void cpu_close(struct trainer *trainer)
{
    struct cpu_trainer *t = cpu_trainer(trainer);
    backward_close(t->backward);
    muon_close(t->muon);
    threads_close(t->team);
    free(t->arrays);
    free(t);
}

static const struct trainer_ops cpu_ops = {
    .gradient = cpu_gradient,
    .update = cpu_update,
    .get = cpu_get,
    .set = cpu_set,
    .describe = cpu_describe,
    .close = cpu_close,
};

/* ---- opening ------------------------------------------------------------ */

static enum status allocate(struct cpu_trainer *t)
{
    size_t n = t->base.parameters->n_floats;
    t->arrays = calloc(4 * n, sizeof *t->arrays);
    if (!t->arrays)
        return fail_memory("the weights and their moments");
    t->weights = t->arrays;
    t->moment_1 = t->weights + n;
    t->moment_2 = t->moment_1 + n;
    t->gradient = t->moment_2 + n;
    return OK;
}

static enum status open_parts(struct cpu_trainer *t,
                              const struct trainer_options *options)
{
    const struct parameters *p = t->base.parameters;
    struct backward_options backward = {
        .n_windows = options->n_windows,
        .n_t = options->n_t,
        .imitates_int8 = options->imitates_int8,
    };
    TRY(threads_open(&t->team, options->n_threads));
    TRY(allocate(t));
    TRY(muon_open(&t->muon, p, t->team));
    return backward_open(&t->backward, p, &backward, t->team);
}

enum status cpu_trainer_open(struct trainer **trainer,
                             const struct parameters *parameters,
                             const struct trainer_options *options)
{
    *trainer = NULL;
    struct cpu_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return fail_memory("training");
    t->base = (struct trainer){
        .ops = &cpu_ops,
        .parameters = parameters,
        .n_windows = options->n_windows,
        .n_t = options->n_t,
        .device = DEVICE_CPU,
    };
    enum status status = open_parts(t, options);
    if (status != OK) {
        cpu_close(&t->base);
        return status;
    }
    *trainer = &t->base;
    return OK;
}

/* engine.c -- chooses the hardware, and what all engines share.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "config.h"
#include "engine/engine_ops.h"
#include "engine/on_cpu.h"
#include "engine/state_image.h"

#if !HAVE_CUDA
enum status cuda_engine_open(struct engine **engine, const struct model *model,
                             const struct engine_options *options)
{
    (void)model;
    (void)options;
    *engine = NULL;
    return fail(E_DEVICE, "this build has no CUDA engine");
}

enum status cuda_float_engine_open(struct engine **engine,
                                   const struct model *model,
                                   const struct engine_options *options)
{
    return cuda_engine_open(engine, model, options);
}
#endif

static enum status open_cuda(struct engine **engine, const struct model *model,
                             const struct engine_options *options)
{
    if (model->config.mixer == MIXER_MAMBA2 && model->config.is_float)
        return fail(E_DEVICE, "a Mamba-2 model of floats runs on the CPU only; "
                              "mambyte-import quantises it");
    if (model->config.is_float)
        return cuda_float_engine_open(engine, model, options);
    return cuda_engine_open(engine, model, options);
}

enum status engine_open(struct engine **engine, const struct model *model,
                        const struct engine_options *options)
{
    if (options->device != DEVICE_CPU) {
        enum status status = open_cuda(engine, model, options);
        if (status == OK || options->device == DEVICE_CUDA)
            return status;
    }
    return cpu_engine_open(engine, model, options);
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    engine_state_free(engine, engine->start);
    engine->ops->close(engine);
}

const struct model *engine_model(const struct engine *engine)
{
    return engine->model;
}

int engine_busy_streams(const struct engine *engine)
{
    return engine->busy_streams;
}

int engine_busy_bytes(const struct engine *engine)
{
    return engine->busy_bytes;
}

bool engine_is_asynchronous(const struct engine *engine)
{
    return engine && engine->is_asynchronous;
}

enum status engine_state_new(struct engine *engine, struct state **state)
{
    TRY(engine->ops->state_new(engine, state));
    enum status status = engine_state_begin(engine, *state);
    if (status != OK) {
        engine->ops->state_free(engine, *state);
        *state = NULL;
    }
    return status;
}

void engine_state_free(struct engine *engine, struct state *state)
{
    if (state)
        engine->ops->state_free(engine, state);
}

/* An engine that reads many streams needs memory for what it computes. */
static void give_some_back(struct engine *engine, struct state **states,
                           size_t least, size_t *n_made)
{
    size_t rest = *n_made - *n_made / 4;
    while (*n_made > rest && *n_made > least)
        engine_state_free(engine, states[--*n_made]);
}

enum status engine_states_new(struct engine *engine, struct state **states,
                              size_t n, size_t least, size_t *n_made)
{
    for (*n_made = 0; *n_made < n; ++*n_made) {
        enum status status = engine_state_new(engine, &states[*n_made]);
        if (status == E_MEMORY && *n_made >= least) {
            give_some_back(engine, states, least, n_made);
            return OK;
        }
        TRY(status);
    }
    return OK;
}

static enum status begin(struct engine *engine, struct state *state)
{
    const struct model_config *config = &engine->model->config;
    float *zeros = calloc(1, model_state_size(config));
    if (!zeros)
        return fail_memory("a state");
    enum status status = engine->ops->state_set(engine, state, zeros);
    free(zeros);
    if (status != OK || config->begin_byte < 0)
        return status;
    uint8_t byte = (uint8_t)config->begin_byte;
    struct segment first = {.state = state, .bytes = &byte, .n = 1};
    return engine_feed(engine, &first, 1);
}

/* Only the first stream reads the begin byte; the others copy its state. */
enum status engine_state_begin(struct engine *engine, struct state *state)
{
    if (!engine->start) {
        struct state *start;
        TRY(engine->ops->state_new(engine, &start));
        enum status status = begin(engine, start);
        if (status != OK) {
            engine_state_free(engine, start);
            return status;
        }
        engine->start = start;
    }
    return engine->ops->state_copy(engine, state, engine->start);
}

enum status engine_state_copy(struct engine *engine, struct state *to,
                              const struct state *from)
{
    return engine->ops->state_copy(engine, to, from);
}

enum status engine_state_get(struct engine *engine, const struct state *state,
                             float *image)
{
    TRY(engine_feed_finish(engine));
    return engine->ops->state_get(engine, state, image);
}

enum status engine_state_set(struct engine *engine, struct state *state,
                             const float *image)
{
    TRY(state_image_check(&engine->model->config, image));
    TRY(engine_feed_finish(engine));
    return engine->ops->state_set(engine, state, image);
}

enum status engine_feed(struct engine *engine, const struct segment *segments,
                        size_t n_segments)
{
    if (!engine)
        return OK;
    TRY(engine_feed_finish(engine));
    return engine->ops->feed(engine, segments, n_segments);
}

enum status engine_feed_start(struct engine *engine,
                              const struct segment *segments, size_t n_segments)
{
    if (!engine)
        return OK;
    if (engine->ops->feed_start)
        return engine->ops->feed_start(engine, segments, n_segments);
    return engine->ops->feed(engine, segments, n_segments);
}

enum status engine_feed_finish(struct engine *engine)
{
    if (!engine || !engine->ops->feed_finish)
        return OK;
    return engine->ops->feed_finish(engine);
}

enum status engine_generate(struct engine *engine, struct state *state,
                            const struct sampler *sampler, uint64_t index,
                            uint8_t *bytes, size_t n)
{
    TRY(engine_feed_finish(engine));
    return engine->ops->generate(engine, state, sampler, index, bytes, n);
}

enum status engine_floats_new(struct engine *engine, float **floats, size_t n)
{
    if (engine->ops->floats_new)
        return engine->ops->floats_new(engine, floats, n);
    *floats = malloc(n * sizeof **floats);
    return *floats ? OK : fail_memory("results");
}

void engine_floats_free(struct engine *engine, float *floats)
{
    if (engine->ops->floats_free)
        engine->ops->floats_free(engine, floats);
    else
        free(floats);
}

void engine_describe(const struct engine *engine, char text[160])
{
    engine->ops->describe(engine, text);
}

bool engine_will_be_on_cpu(const struct engine_options *options)
{
#if HAVE_CUDA
    return options->device == DEVICE_CPU;
#else
    return options->device != DEVICE_CUDA;
#endif
}

bool engine_is_on_cpu(const struct engine *engine)
{
    return engine->is_on_cpu;
}

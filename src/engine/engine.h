/* engine.h -- runs a model over bytes, on whatever hardware there is.
 *
 * Two nouns: an immutable model, and a mutable state, which is one stream's
 * recurrence together with its prediction of the next byte.  An engine owns
 * the states (they live where it computes) and its scratch, never the model.
 *
 * The same bits come out of every engine, for every split of a stream into
 * calls and every company a stream has in a call: what one machine
 * compressed, another decompresses.  check_engine.c holds them to it.  Models
 * of floats (model_needs_int8) are left out of the promise: a GPU adds in
 * another order.
 *
 * An engine is used by one thread at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ENGINE_H
#define MAMBYTE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/sampler.h"
#include "model/model.h"

struct engine;
struct state;

/* n bytes that one stream reads.  No two segments of a call share a state. */
struct segment {
    struct state *state;
    const uint8_t *bytes; /* [n] */
    size_t n;             /* may be 0 */
    float *bits;          /* [n] or NULL: what byte t cost under the
                           * prediction before it (odds_cost) */
    float *logits;        /* [n][256] or NULL: natural-log units, the
                           * prediction after byte t */
    float *sums;          /* [sums_floats()] or NULL: what the layers say of
                           * the bytes is added to it, see below */
};

/* What some layers say of bytes, for classifiers: y, the gated output of the
 * scan, of SUMS_LAYERS layers (or all), spread evenly; the layers one after
 * the other, [d_inner] each.  Bytes are added one by one, in their order. */
enum { SUMS_LAYERS = 4 };

static inline int sums_layers(const struct model_config *c)
{
    return c->n_layer < SUMS_LAYERS ? c->n_layer : SUMS_LAYERS;
}

/* The place of a layer among those; -1 when it is none of them. */
static inline int sums_find(const struct model_config *c, int layer)
{
    int n = sums_layers(c);
    for (int i = 0; i < n; i++) {
        if ((2 * i + 1) * c->n_layer / (2 * n) == layer)
            return i;
    }
    return -1;
}

static inline size_t sums_floats(const struct model_config *c)
{
    return (size_t)sums_layers(c) * (size_t)c->d_inner;
}

/* What the hardware has to give.  engine.c fills the table by device. */
struct engine_ops {
    enum status (*state_new)(struct engine *, struct state **);
    void (*state_free)(struct engine *, struct state *);
    enum status (*state_copy)(struct engine *, struct state *to,
                              const struct state *from);
    enum status (*state_get)(struct engine *, const struct state *,
                             float *image);
    enum status (*state_set)(struct engine *, struct state *,
                             const float *image);
    enum status (*feed)(struct engine *, const struct segment *segments,
                        size_t n_segments);
    enum status (*generate)(struct engine *, struct state *,
                            const struct sampler *, uint64_t index,
                            uint8_t *bytes, size_t n);
    void (*describe)(const struct engine *, char text[160]);
    void (*close)(struct engine *);

    /* Both or none of them: see engine_floats_new(). */
    enum status (*floats_new)(struct engine *, float **floats, size_t n);
    void (*floats_free)(struct engine *, float *floats);

    /* Both or none of them: see engine_feed_start(). */
    enum status (*feed_start)(struct engine *, const struct segment *segments,
                              size_t n_segments);
    enum status (*feed_finish)(struct engine *);
};

/* The first member of every engine. */
struct engine {
    const struct engine_ops *ops;
    const struct model *model;
    int n_streams; /* that keep it busy when stepped together; 0: some dozens */
    int n_together; /* that calls may read at once, to gain; 0: some dozens */
    bool is_apart;  /* it computes without the cores of the machine       */
    struct state *begun; /* a stream's begin, once one was wanted: engine.c */
};

enum device { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA };

/* The projections of a layer; and the head, of the layer after the last. */
enum projection_place { IN_PROJ, X_PROJ, DT_PROJ, OUT_PROJ, LM_HEAD };

/* Is shown what projections multiply, x: [n], now and then: once for each
 * batch of bytes that the engine chooses to read at a time. */
struct probe {
    void (*see)(void *arg, int layer, enum projection_place place,
                const float *x, int n);
    void *arg;
};

struct engine_options {
    enum device device;
    int cuda_index;  /* which GPU */
    int n_threads;   /* of the CPU; 0: one a core that we may run on */
    const char *cpu; /* "scalar", "avx2", ..: a named level; NULL: the best */
    const struct probe *probe; /* or NULL; DEVICE_CPU with one thread only, for
                                * a model of floats */
};

/* The model stays the caller's and must outlive the engine.  E_DEVICE with
 * the reason when DEVICE_CUDA cannot be had; DEVICE_AUTO is a GPU where one
 * can be had, else the CPU. */
enum status engine_open(struct engine **engine, const struct model *model,
                        const struct engine_options *options);
void engine_close(struct engine *engine); /* NULL is accepted */

/* A state at the begin of a stream: zero, then the begin byte of the model.
 * A model without one predicts all bytes alike until it has read one. */
enum status engine_state_new(struct engine *engine, struct state **state);
void engine_state_free(struct engine *engine, struct state *state);
enum status engine_state_begin(struct engine *engine, struct state *state);
enum status engine_state_copy(struct engine *engine, struct state *to,
                              const struct state *from);

/* A state in the memory of the host, the same on every engine.  Floats:
 *   for each layer: conv [d_conv - 1][conv_channels()], oldest input first;
 *                   s    Mamba-1: [d_state][d_inner],
 *                        Mamba-2: [n_heads][headdim][d_state];
 *                   w    [n_heads][CHUNK], 0 from the place on;
 *                   e    [n_heads], 0 at place 0;
 *   then logits [256].
 * Behind them int8:
 *   for each layer: x    [CHUNK][d_inner], 0 from the place on;
 *                   b    [CHUNK][n_groups][d_state], 0 from the place on;
 *   then the place of the next byte in its chunk.
 * w, e and the int8 are of Mamba-2 in int8 (kernels/mamba2.h) only.
 *
 * image: model_state_size() bytes.  E_FORMAT when it is no state. */
enum status engine_state_get(struct engine *engine, const struct state *state,
                             float *image);
enum status engine_state_set(struct engine *engine, struct state *state,
                             const float *image);

/* The parts of an image. */
static inline size_t state_layer_floats(const struct model_config *c)
{
    return (model_state_floats(c) - N_BYTES_VOCAB) / (size_t)c->n_layer;
}

static inline int8_t *state_int8s(const struct model_config *c, float *image)
{
    return (int8_t *)(image + model_state_floats(c));
}

static inline float *state_conv(const struct model_config *c, float *image,
                                int layer)
{
    return image + (size_t)layer * state_layer_floats(c);
}

static inline float *state_s(const struct model_config *c, float *image,
                             int layer)
{
    return state_conv(c, image, layer) +
           (size_t)(c->d_conv - 1) * (size_t)conv_channels(c);
}

static inline float *state_logits(const struct model_config *c, float *image)
{
    return image + (size_t)c->n_layer * state_layer_floats(c);
}

/* Reads the segments' bytes: equal, bit for bit, to reading them one stream
 * and one byte at a time. */
enum status engine_feed(struct engine *engine, const struct segment *segments,
                        size_t n_segments);

/* The same for calls that follow each other.  Returns when the results of the
 * call that was started before are there; those of this one may come with the
 * next start, until which the segments and all that they name stay in place.
 * So one call is under way while its caller works on the results of another.
 *
 * A state may be in calls that follow each other: they are read in order.
 * While it is under way it is not copied, copied to or begun, as others may
 * be, nor freed, unless the engine is closed next.  After a failure nothing is
 * under way. */
enum status engine_feed_start(struct engine *engine,
                              const struct segment *segments,
                              size_t n_segments);

/* Returns when all results are there.  Whatever else needs that, does it
 * itself: engine_feed, engine_generate, engine_state_get, engine_state_set. */
enum status engine_feed_finish(struct engine *engine);

/* Draws n bytes, each from the prediction of state, and reads it.  The
 * random number of bytes[i] is sampler_random(sampler, index + i). */
enum status engine_generate(struct engine *engine, struct state *state,
                            const struct sampler *sampler, uint64_t index,
                            uint8_t *bytes, size_t n);

/* Memory for n floats where the engine may put logits and sums without a
 * detour, which it needs for any other memory.  To be freed before the engine.
 */
enum status engine_floats_new(struct engine *engine, float **floats, size_t n);
void engine_floats_free(struct engine *engine, float *floats);

/* "cpu avx512vnni, 2 threads" */
void engine_describe(const struct engine *engine, char text[160]);

/* For the engines: cpu_engine.c, cuda/cuda_engine.cu, cuda/float_engine.cu. */
enum status cpu_engine_open(struct engine **engine, const struct model *model,
                            const struct engine_options *options);
enum status cuda_engine_open(struct engine **engine, const struct model *model,
                             const struct engine_options *options);
enum status cuda_float_engine_open(struct engine **engine,
                                   const struct model *model,
                                   const struct engine_options *options);

#endif

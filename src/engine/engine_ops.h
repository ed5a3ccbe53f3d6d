/* engine_ops.h -- the functions of a backend, from which engine.c makes an
 * engine.
 *
 * For engine.c, the backends (cpu_engine.c, cuda/) and tests that put a
 * backend of their own behind an engine.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ENGINE_OPS_H
#define MAMBYTE_ENGINE_OPS_H

#include "engine/engine.h"

/* The functions of engine.h; floats_new and floats_free, and feed_start and
 * feed_finish, are there together or NULL. */
struct engine_ops {
    enum status (*state_new)(struct engine *, struct state **);
    void (*state_free)(struct engine *, struct state *);
    enum status (*state_copy)(struct engine *, struct state *to,
                              const struct state *from);
    enum status (*state_get)(struct engine *, const struct state *,
                             float *image);
    /* of an image that state_image_check() has accepted */
    enum status (*state_set)(struct engine *, struct state *,
                             const float *image);
    enum status (*feed)(struct engine *, const struct segment *segments,
                        size_t n_segments);
    enum status (*generate)(struct engine *, struct state *,
                            const struct sampler *, uint64_t index,
                            uint8_t *bytes, size_t n);
    void (*describe)(const struct engine *, char text[160]);
    void (*close)(struct engine *);

    enum status (*floats_new)(struct engine *, float **floats, size_t n);
    void (*floats_free)(struct engine *, float *floats);

    enum status (*feed_start)(struct engine *, const struct segment *segments,
                              size_t n_segments);
    enum status (*feed_finish)(struct engine *);
};

/* The first member of every engine. */
struct engine {
    const struct engine_ops *ops;
    const struct model *model;
    int busy_streams;     /* see engine.h */
    int busy_bytes;       /* see engine.h */
    bool is_asynchronous; /* see engine.h */
    bool is_on_cpu;       /* see on_cpu.h */
    struct state *start;  /* of a stream, once one was wanted: engine.c */
};

/* engine/cpu_engine.c, cuda/engine/cuda_engine.cu, cuda/float/float_engine.cu.
 * Arguments as for engine_open(). */
enum status cpu_engine_open(struct engine **engine, const struct model *model,
                            const struct engine_options *options);
enum status cuda_engine_open(struct engine **engine, const struct model *model,
                             const struct engine_options *options);
enum status cuda_float_engine_open(struct engine **engine,
                                   const struct model *model,
                                   const struct engine_options *options);

#endif

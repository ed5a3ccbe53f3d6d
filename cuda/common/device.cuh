/* device.cuh -- what the GPU engine's files share: the model as it lies on
 * the device, the state of a stream, and errors.
 *
 * A model is one allocation on the device.  A state is an array of
 * model_state_floats() floats in the layout of engine/state_image.h, so that
 * saving one is a copy.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DEVICE_CUH
#define MAMBYTE_DEVICE_CUH

#include <cuda_runtime.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
extern "C" {
#include "engine/engine_ops.h"
#include "engine/pooled.h"
#include "engine/state_image.h"
#include "model/model.h"
#include "model/odds.h"
}

enum {
    ROW_ALIGN = 32,   /* bytes: int8 rows begin at a multiple           */
    ARENA_ALIGN = 256 /* bytes: arrays of the model begin at a multiple */
};

/* y = W x.  Row r is at q + r * stride.  Bytes from cols to stride are 0: they
 * add nothing to a sum. */
struct cuda_matrix {
    int rows, cols, stride;
    const int8_t *q;
    const float *scale; /* [rows] */
};

/* The fields of struct layer, on the device. */
struct cuda_layer {
    const float *norm;      /* [d_model]                          */
    const float *norm_bias; /* [d_model] or NULL                  */
    struct cuda_matrix in_proj;
    union {
        struct cuda_matrix x_proj; /* Mamba-1                              */
        const float *gate_norm;    /* Mamba-2: [d_inner]                   */
    };
    struct cuda_matrix dt_proj; /* Mamba-1                                 */
    struct cuda_matrix out_proj;
    const float *conv;      /* [d_conv][conv_channels()], oldest tap first */
    const float *conv_bias; /* [conv_channels()]                  */
    const float *dt_bias;   /* [d_inner]; Mamba-2: [n_heads]      */
    const float *a_log2e;   /* [d_state][d_inner]; Mamba-2: [n_heads] */
    const float *d;         /* [d_inner]                          */
};

/* The state of a stream: image on the device, as state_image.h lays it out; of
 * Mamba-2 with what is derived from it after it, see mamba2_state.cuh. */
struct state {
    float *image;
    struct state *next;        /* in the engine's list of states to use again */
    bool is_target, is_source; /* of a copy that has not started */
};

/* Pinned memory of the host, which the device can write to. */
struct host_floats {
    float *begin, *end;
    struct host_floats *next;
};

/* That of these in which n floats from p on lie, or NULL. */
static inline const struct host_floats *
find_pinned(const struct host_floats *floats, const float *p, size_t n)
{
    while (floats && !(p >= floats->begin && p < floats->end))
        floats = floats->next;
    return floats && n <= (size_t)(floats->end - p) ? floats : NULL;
}

/* Where the parts of a state's image lie, in floats: the past inputs of layer l
 * at l * layer, its s at l * layer + s. */
struct image_layout {
    size_t layer, s, logits;
};

struct cuda_model {
    const struct model *source; /* which it is a copy of               */
    struct model_config config;
    struct image_layout image;
    const float *embedding;   /* [256][d_model]                     */
    const float *norm_f;      /* [d_model]                          */
    const float *norm_f_bias; /* [d_model] or NULL                  */
    struct cuda_matrix lm_head;
    struct cuda_layer *layers;              /* [n_layer], host      */
    const struct cuda_layer *device_layers; /* [n_layer + 1], device; the
                                             * last one has norm_f, and lm_head
                                             * as in_proj */
    void *arena; /* owned: all of the above but layers  */
    size_t arena_bytes;
};

/* ---- errors ------------------------------------------------------------- */

/* OK, or fail() with what was tried and the reason: E_MEMORY when the device
 * is out of memory, else E_DEVICE. */
enum status cuda_status(cudaError_t error, const char *what);

/* OK where there is a device of that index; else E_DEVICE with the reason. */
enum status cuda_find_device(int index);

/* Whether kernels can have clusters of blocks, and start while others end:
 * where the current device has capability 9.0 or later, and so has the code
 * that it runs, which may have been compiled for an earlier one. */
enum status cuda_has_clusters(bool *has_clusters);

#define CUDA_TRY(call, what) TRY(cuda_status(call, what))

/* ---- small things ------------------------------------------------------- */

static inline __host__ __device__ int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static inline __host__ __device__ int round_up(int a, int b)
{
    return ceil_div(a, b) * b;
}

#endif

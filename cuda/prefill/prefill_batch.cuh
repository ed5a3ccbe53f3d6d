/* prefill_batch.cuh -- what the kernels of prefill work on, and their
 * launches.
 *
 * A row is a byte of a stream.  A microbatch is up to ROWS_MAX rows, made of
 * spans: consecutive bytes of one stream in consecutive rows.  At tick k layer
 * l works on microbatch k - l, so that one launch serves all layers
 * (blockIdx.z), and a single long stream fills the chip.  Each layer has its
 * own activations; the residual stream h travels with its microbatch.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREFILL_BATCH_CUH
#define MAMBYTE_PREFILL_BATCH_CUH

#include "cuda/common/launch.cuh"
#include "cuda/common/overflow.cuh"
extern "C" {
#include "engine/pooled.h"
}

enum {
    ROWS_MAX = 8192, /* of a microbatch                                    */
    ROWS_UNIT = 128, /* memory for rows comes in multiples of it           */
    STRIP = 8        /* rows of a strip, at most                           */
};

/* Rows [row, row + n) of a microbatch: bytes of the stream whose state is
 * image. */
struct span {
    float *image;
    float *pooled; /* of its segment, on the device; NULL: not wanted      */
    int row, n;
    int chunk; /* number of its first, of those of the microbatch; a chunk that
                * it may touch counts, wherever in a chunk it starts        */
};

/* Chunks that n bytes may touch. */
static inline __host__ __device__ int chunks_of(int n)
{
    return 1 + (n + CHUNK - 2) / CHUNK;
}

/* Rows [row, row + n), n <= STRIP, of one span: what a block takes where
 * neighbouring rows matter. */
struct strip {
    int span, row, n;
};

struct microbatch {
    int n_rows, n_spans, n_strips, n_chunks;
    uint8_t bytes[ROWS_MAX];
    struct span spans[ROWS_MAX];
    struct strip strips[ROWS_MAX];
};

/* All that the kernels read and write; passed by value.  A [layer] array has
 * `rows` rows for each layer; layer n_layer is norm_f and lm_head. */
struct prefill_batch {
    int d_model, d_inner, d_state, d_conv, dt_rank, n_layer;
    bool has_norm_bias;
    float epsilon;
    struct image_layout image;
    const float *embedding;
    const struct cuda_layer *layers; /* [n_layer + 1]                      */

    int max_shared, n_processors; /* of the device: bytes for a block      */

    const struct microbatch *slots; /* [n_slots]                           */
    int n_slots, rows;
    float *h; /* [n_slots][rows][d_model]                                  */

    int x_stride, u_stride, dt_room, dtbc_stride; /* of x, u_q, dtbc       */
    int8_t *x;                  /* [layer][x_stride]: norm(h)              */
    float *x_scale;             /* [layer]                                 */
    float *uz;                  /* [layer][2 d_inner]: u | silu(z)         */
    float *u;                   /* [layer][d_inner]; then y                */
    int8_t *u_q;                /* [layer][u_stride]; then y               */
    float *u_scale;             /* [layer]; then of y                      */
    float *dtbc;                /* [layer][dtbc_stride]: dt, room up to
                                 * dt_room, B, C                           */
    uint32_t *dt_amax, *y_amax; /* [layer]                                 */

    bool has_pooled; /* some span of a call under way has features         */
    int pooled_layers[POOLED_LAYERS], n_pooled;

    float *logits; /* [rows][256], of one microbatch                       */
    float *bits;   /* [rows], of one microbatch                            */

    uint32_t *overflow; /* see overflow.cuh; NULL but for lm_head          */
};

/* Layers [first, first + count) at tick `number`. */
struct tick {
    int number, first, count;
    int rows, spans, strips, chunks; /* the most of any of their
                                      * microbatches                       */
};

enum product_kind {
    PRODUCT_IN,
    PRODUCT_X,
    PRODUCT_OUT,
    PRODUCT_HEAD,
    PRODUCT_MAMBA2_IN,   /* launch_mamba2_in()                              */
    PRODUCT_MAMBA2_GATED /* launch_mamba2_gated_in()                        */
};

/* Shapes, strides and rows for a model; and what the device has.  Memory is
 * left to the caller. */
void prefill_describe(struct prefill_batch *b, const struct cuda_model *m);
enum status prefill_ask_device(struct prefill_batch *b);

/* Once for each device, before the launches: the kernels need more shared
 * memory than a block has by default. */
enum status products_prepare(const struct prefill_batch *b);
enum status scan_prepare(const struct prefill_batch *b);

/* x = norm(h), quantised; the maxima of the layer are set to 0.  For layer 0
 * h is made first, of the embeddings of the bytes. */
enum status launch_norm(struct queue q, const struct prefill_batch *b,
                        struct tick tick);

/* From x or u_q: u | silu(z), dtbc, h or logits. */
enum status launch_product(struct queue q, const struct prefill_batch *b,
                           struct tick tick, enum product_kind kind);

/* u = silu(conv(uz)), u_q = u quantised. */
enum status launch_conv(struct queue q, const struct prefill_batch *b,
                        struct tick tick);

/* y, in place of u, and the state: its s and its past inputs. */
enum status launch_scan(struct queue q, const struct prefill_batch *b,
                        struct tick tick);

/* y is added to the pooled features of the spans that want them. */
enum status launch_pooled(struct queue q, const struct prefill_batch *b,
                          struct tick tick);

/* u_q = y quantised. */
enum status launch_quantise(struct queue q, const struct prefill_batch *b,
                            struct tick tick);

/* bits: what each byte cost; the last prediction of a span to its state. */
enum status launch_deliver(struct queue q, const struct prefill_batch *b,
                           struct tick tick);

/* The slot of the microbatch that a layer works on; lm_head has that of the
 * last layer. */
static __device__ __forceinline__ int
slot_of(const struct prefill_batch &b, const struct tick &tick, int layer)
{
    return (tick.number - min(layer, b.n_layer - 1)) % b.n_slots;
}

#endif

/* weight_stream.cuh -- a block's weights, fetched ahead of their use.
 *
 * From compute capability 9.0 on, the weights pass through a ring in shared
 * memory.  One warp does nothing but copy.  It keeps the ring full, a stage of
 * STAGE_BYTES at a time, even while the computing warps wait for other blocks:
 * so memory is read all the time.  The mbarrier of a stage says when it has
 * come; it is free again when the computing warps' position has passed it.
 *
 * Below 9.0 the computing warps read the packed weights where they lie.
 *
 * A position counts COPY_ALIGN bytes from the first byte of the launch.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_WEIGHT_STREAM_CUH
#define MAMBYTE_WEIGHT_STREAM_CUH

#include "cuda/common/ptx.cuh"
#include "cuda/decode/decode_plan.cuh"

#ifdef HAS_CLUSTER
#define HAS_RING 1
#endif

enum { STAGE_UNITS = STAGE_BYTES / COPY_ALIGN };

#ifdef HAS_RING
typedef uint32_t weight_place; /* where in the ring */
#else
typedef const uint8_t *weight_place;
#endif

/* A thread's place in its block's stream of weights. */
struct weights {
    weight_place at;
#ifdef HAS_RING
    uint8_t *ring;
    uint64_t *full;  /* [n_stages] */
    uint32_t *freed; /* all below this position is free */
    uint32_t ring_bytes;
    uint32_t position;
    uint32_t n_stages, n_waited, slot, parity; /* of the waiting warp */
#endif
};

/* Where the shares of a block lie in device memory. */
struct packed_weights {
    const struct decode_plan *plan;
    int block, part;
};

static __device__ __forceinline__ const uint8_t *
packed_norms(const struct packed_weights *s, int layer)
{
    return s->plan->norms + (size_t)layer * s->plan->norm_bytes;
}

/* The block's share of in_proj; of lm_head after the last layer. */
static __device__ __forceinline__ const uint8_t *
packed_in(const struct packed_weights *s, int layer)
{
    return s->plan->own + s->block * s->plan->block_bytes +
           layer * s->plan->layer_bytes;
}

static __device__ __forceinline__ const uint8_t *
packed_x(const struct packed_weights *s, int layer)
{
    return s->plan->parts +
           ((size_t)s->part * s->plan->config.n_layer + layer) *
               s->plan->x.bytes;
}

static __device__ __forceinline__ const uint8_t *
packed_scan(const struct packed_weights *s, int layer)
{
    return packed_in(s, layer) + s->plan->in.bytes;
}

static __device__ __forceinline__ const uint8_t *
packed_out(const struct packed_weights *s, int layer)
{
    return packed_scan(s, layer) + s->plan->scan.bytes;
}

/* ---- the computing warps ------------------------------------------------ */

/* Says where the next bytes lie in memory, for kernels without a ring. */
static __device__ __forceinline__ void weights_open(struct weights *w,
                                                    const uint8_t *packed)
{
#ifndef HAS_RING
    w->at = packed;
#endif
}

/* The place `offset` bytes after another of the same share. */
static __device__ __forceinline__ weight_place
weights_behind(const struct weights *w, weight_place place, uint32_t offset)
{
#ifdef HAS_RING
    const uint32_t at = place + offset;
    return at < w->ring_bytes ? at : at - w->ring_bytes;
#else
    return place + offset;
#endif
}

/* The place `offset` bytes on; without a ring, that is `packed`. */
static __device__ __forceinline__ weight_place
weights_place(const struct weights *w, const uint8_t *packed, uint32_t offset)
{
#ifdef HAS_RING
    const uint32_t at = w->at + offset;
    return at < w->ring_bytes ? at : at - w->ring_bytes;
#else
    return packed;
#endif
}

/* The aligned object `offset` bytes after a place. */
static __device__ __forceinline__ const void *
weights_at(const struct weights *w, weight_place place, uint32_t offset)
{
#ifdef HAS_RING
    uint32_t at = place + offset;
    return w->ring + (at < w->ring_bytes ? at : at - w->ring_bytes);
#else
    return place + offset;
#endif
}

static __device__ __forceinline__ float weights_float(const struct weights *w,
                                                      weight_place place, int i)
{
    return *(const float *)weights_at(w, place, i * sizeof(float));
}

/* Moves on by `bytes`: a multiple of COPY_ALIGN, and less than the ring. */
static __device__ __forceinline__ void weights_advance(struct weights *w,
                                                       uint32_t bytes)
{
#ifdef HAS_RING
    w->at += bytes;
    w->at -= w->at < w->ring_bytes ? 0 : w->ring_bytes;
    w->position += bytes / COPY_ALIGN;
#else
    w->at += bytes;
#endif
}

/* Waits until the next bytes have come.  Always the same warp calls it, before
 * a barrier that tells the others. */
static __device__ __forceinline__ void weights_wait(struct weights *w,
                                                    uint32_t bytes)
{
#ifdef HAS_RING
    const uint32_t end = w->position + bytes / COPY_ALIGN;
    while ((int32_t)(end - w->n_waited * STAGE_UNITS) > 0) {
        mbarrier_wait(&w->full[w->slot], w->parity);
        w->n_waited++;
        if (++w->slot == w->n_stages) {
            w->slot = 0;
            w->parity ^= 1;
        }
    }
#endif
}

/* Frees all weights before this place.  One thread calls it, after a barrier
 * that follows the last read of them.  The store needs no release, which would
 * wait for loads and stores under way: what was read is in registers. */
static __device__ __forceinline__ void weights_free(const struct weights *w)
{
#ifdef HAS_RING
    shared_store_relaxed(w->freed, w->position);
#endif
}

/* ---- the fetching warp -------------------------------------------------- */

#ifdef HAS_RING

/* Where the fetching thread is, and what is left of what it copies. */
struct fetch {
    struct packed_weights packed;
    const uint8_t *from;
    uint32_t left;
    int layer, share;
    size_t n_bytes; /* of text, for which weights are still to be fetched */
};

/* The next share of the stream, in the order of decode_plan.cuh; what lies
 * together in memory counts as one.  False at the end of the stream. */
static __device__ bool fetch_next_share(struct fetch *f)
{
    const struct decode_plan *p = f->packed.plan;
    const bool is_head = f->layer == p->config.n_layer;
    const struct matrix_share *in = is_head ? &p->head : &p->in;
    switch (f->share++) {
    case 0:
        f->from = packed_in(&f->packed, f->layer);
        f->left = in->float_bytes;
        return f->n_bytes > 0;
    case 1:
        f->from = packed_norms(&f->packed, f->layer);
        f->left = p->norm_bytes;
        return true;
    case 2:
        f->from = packed_in(&f->packed, f->layer) + in->float_bytes;
        f->left = in->bytes - in->float_bytes;
        if (is_head) {
            f->layer = 0;
            f->share = 0;
            f->n_bytes--;
        }
        return true;
    case 3:
        f->from = packed_scan(&f->packed, f->layer);
        f->left = p->scan.bytes;
        return true;
    case 4:
        f->from = packed_x(&f->packed, f->layer);
        f->left = p->x.bytes;
        return true;
    default:
        f->from = packed_out(&f->packed, f->layer);
        f->left = p->out.bytes;
        f->layer++;
        f->share = 0;
        return true;
    }
}

/* Copies the next stage; false when the stream ends in it. */
static __device__ bool fetch_stage(struct fetch *f, uint8_t *stage,
                                   uint64_t *mbarrier)
{
    uint32_t filled = 0;
    bool goes_on = true;
    while (filled < STAGE_BYTES) {
        if (f->left == 0 && !(goes_on = fetch_next_share(f)))
            break;
        const uint32_t n = min(f->left, STAGE_BYTES - filled);
        bulk_copy(stage + filled, f->from, n, mbarrier);
        f->from += n;
        f->left -= n;
        filled += n;
    }
    /* Copies may have come before this: the phase does not end without it. */
    mbarrier_expect(mbarrier, filled);
    return goes_on;
}

/* Fetches the weights for n_bytes of text.  One thread calls it. */
static __device__ void fetch_all(const struct weights *w,
                                 struct packed_weights packed, size_t n_bytes)
{
    struct fetch f = {packed, NULL, 0, 0, 0, n_bytes};
    const uint32_t ring_units = w->n_stages * STAGE_UNITS;
    bool goes_on = true;
    uint32_t slot = 0;
    for (uint32_t end = STAGE_UNITS; goes_on; end += STAGE_UNITS) {
        uint32_t freed;
        do {
            freed = shared_load_relaxed(w->freed);
        } while ((int32_t)(end - freed) > (int32_t)ring_units);
        goes_on = fetch_stage(&f, w->ring + slot * STAGE_BYTES, &w->full[slot]);
        slot = slot + 1 == w->n_stages ? 0 : slot + 1;
    }
}

#endif

#endif

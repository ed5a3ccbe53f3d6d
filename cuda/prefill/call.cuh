/* call.cuh -- a call of prefill that is under way, and its pooled features.
 *
 * Pooled features of the call's segments are added to on the device: they go
 * there before its first microbatch, and come back after its last result.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CALL_CUH
#define MAMBYTE_CALL_CUH

#include "cuda/common/device.cuh"

struct call {
    const struct segment *segments;
    size_t n;
    int end; /* the number of the microbatch after its last               */
    bool has_pooled;
    size_t each;        /* pooled features of a segment                  */
    bool are_together;  /* the caller's, in pinned memory, end to end    */
    float *pooled;      /* device, owned [n_pooled]: of each segment     */
    float *host_pooled; /* pinned, owned [n_host_pooled]: the same       */
    size_t n_pooled, n_host_pooled;
};

/* Allocates what call_open would take of the device's memory. */
enum status call_reserve(struct call *call, const struct segment *segments,
                         size_t n, size_t each);

/* Starts a call, in a struct of zeros or of a finished call; end is set later.
 * each: pooled features that a segment has, if it wants any. */
enum status call_open(struct call *call, const struct segment *segments,
                      size_t n, size_t each, const struct host_floats *floats);

/* Where the pooled features of a segment are on the device; NULL when it wants
 * none. */
float *call_pooled(const struct call *call, const struct segment *segment);

/* Waits for nothing: all its results were taken.  Hands out the features. */
enum status call_finish(struct call *call);

/* Frees its memory. */
void call_free(struct call *call);

#endif

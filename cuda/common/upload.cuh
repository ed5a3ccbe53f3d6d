/* upload.cuh -- sends a model's arrays to one allocation on the device.
 *
 * The same walk over the model runs twice: once without a base, which only
 * counts, and once with it, which copies.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_UPLOAD_CUH
#define MAMBYTE_UPLOAD_CUH

#include "base/carver.h"
#include "cuda/common/device.cuh"

struct upload {
    struct carver carver;
    enum status status; /* the first failure; nothing is copied after it */
};

/* Where n bytes of from lie on the device; NULL while counting, and for a
 * from of NULL. */
const void *upload_bytes(struct upload *up, const void *from, size_t n);
const float *upload_floats(struct upload *up, const float *from, size_t n);

/* Rows of `size` bytes, `stride` bytes apart on the device. */
const void *upload_rows(struct upload *up, const void *from, size_t rows,
                        size_t size, size_t stride);

/* Between the two walks: allocates what the first one counted, all zeros. */
enum status upload_allocate(struct upload *up, void **arena);

/* After the second walk: waits until all has arrived.  A copy returns when its
 * source may change, which is before that, and no stream of ours waits for the
 * default stream, which makes the copies. */
enum status upload_finish(const struct upload *up);

#endif

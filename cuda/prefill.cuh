/* prefill.cuh -- many bytes of one stream, or of many, at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREFILL_CUH
#define MAMBYTE_PREFILL_CUH

#include "device.cuh"

struct prefill; /* private: buffers, waves under way */

/* Takes what memory it needs, less where the device has less.  overlaps: see
 * struct queue.  The model outlives it. */
enum status prefill_open(struct prefill **prefill,
                         const struct cuda_model *model, bool overlaps);
void prefill_close(struct prefill *prefill); /* NULL is accepted */

/* engine_feed.  Returns when all is done. */
enum status prefill_feed(struct prefill *prefill,
                         const struct segment *segments, size_t n,
                         const struct host_floats *floats);

#endif

/* prefill.cuh -- many bytes of one stream, or of many, at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREFILL_CUH
#define MAMBYTE_PREFILL_CUH

#include "cuda/common/device.cuh"

struct prefill; /* private: see prefill_parts.cuh */

/* E_DEVICE where the device cannot run a model of this shape. */
enum status prefill_check(const struct cuda_model *model);

/* Takes what memory it needs, less where the device has less.  overlaps: see
 * struct queue.  The model outlives it. */
enum status prefill_open(struct prefill **prefill,
                         const struct cuda_model *model, bool overlaps);
void prefill_close(struct prefill *prefill); /* NULL is accepted */

/* Allocates what the call needs beside that.  Where this fails, nothing has
 * happened: once there is more memory, prefill_start can follow. */
enum status prefill_reserve(struct prefill *prefill,
                            const struct segment *segments, size_t n);

/* engine_feed_start and engine_feed_finish; the states were settled before. */
enum status prefill_start(struct prefill *prefill,
                          const struct segment *segments, size_t n,
                          const struct host_floats *floats);
enum status prefill_finish(struct prefill *prefill);

/* Forgets what is under way, if anything: nothing more is written to the
 * callers' memory. */
void prefill_abandon(struct prefill *prefill);

#endif

/* slices.h -- codes bytes, or decodes them, in slices side by side.
 *
 * A stream is decoded byte by byte; speed comes from many streams at a time.
 * So the bytes are cut into slices, as many as their number alone says.  Each
 * slice is a stream of its own, from a fresh state.  Slices form groups; those
 * of a group share a predictor and what it learns.
 *
 *     slices        n / SLICE_BYTES, at least one, all but the last as long
 *     groups        of at most GROUP_SLICES slices each
 *
 * How many groups are coded at a time depends on the engine; the code does not.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SLICES_H
#define MAMBYTE_SLICES_H

#include <stddef.h>
#include <stdint.h>

#include "base/range_coder.h"
#include "base/status.h"
#include "compress/integer_coder.h"
#include "engine/engine.h"

enum { SLICE_BYTES = 1 << 14, GROUP_SLICES = 64 };

/* Called now and then, with the number of bytes done since the last call; any
 * status but OK ends the work. */
typedef enum status slices_tick(void *context, size_t n_bytes);

struct slices; /* states, buffers and threads, kept from call to call */

/* On failure *slices is NULL.  The engine must outlive the slices. */
enum status slices_open(struct slices **slices, struct engine *engine,
                        int n_threads, slices_tick *tick, void *context);
void slices_close(struct slices *slices); /* NULL is accepted */

/* Codes bytes[0..n), n > 0, into code, which has room bytes.  *n_code is the
 * length of the code; it is more than room when the code did not fit or was
 * given up, as it saved nothing.  The lengths of the slices' codes go to
 * side. */
enum status slices_encode(struct slices *slices, uint8_t *bytes, size_t n,
                          struct range_coder *side, uint8_t *code, size_t room,
                          size_t *n_code);

/* Decodes bytes[0..n).  E_FORMAT when code[0..n_code) and side do not go
 * together; other damage is not noticed here: the code has no checksum. */
enum status slices_decode(struct slices *slices, uint8_t *bytes, size_t n,
                          struct range_coder *side, const uint8_t *code,
                          size_t n_code);

#endif

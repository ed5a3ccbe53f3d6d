/* lanes.h -- bytes to and from a code, many places at a time.
 *
 * A stream is decoded a byte after the other; throughput comes from streams.
 * So the bytes are cut into lanes, as many as their number alone says, which
 * begin with a fresh state each and are stepped together.  Lanes are united
 * in groups; those of a group share a predictor and what it learns.
 *
 *     lanes         n / LANE_BYTES, at least one, of one length but the last
 *     groups        of at most GROUP_LANES lanes each
 *
 * As many groups are worked on at a time as the engine has use for; no bit
 * of the code depends on it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LANES_H
#define MAMBYTE_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compress/integer_coder.h"
#include "compress/range_coder.h"
#include "engine/engine.h"

enum { LANE_BYTES = 1 << 14, GROUP_LANES = 64 };

/* Called as the work goes on, with the bytes done since the last time; any
 * status but OK ends it. */
typedef enum status lanes_tick(void *context, size_t n_bytes);

struct lanes; /* states, buffers and threads, kept from one call to the next */

/* On failure *lanes is NULL.  The engine must outlive the lanes. */
enum status lanes_open(struct lanes **lanes, struct engine *engine,
                       int n_threads, lanes_tick *tick, void *context);
void lanes_close(struct lanes *lanes); /* NULL is accepted */

/* Codes bytes[0..n), n > 0, into at most room bytes at code: *n_code, or
 * more than room when they did not fit, or it was seen early that they would
 * not.  lengths of the lanes' codes go to side. */
enum status lanes_encode(struct lanes *lanes, uint8_t *bytes, size_t n,
                         struct range_coder *side, uint8_t *code, size_t room,
                         size_t *n_code);

/* E_FORMAT when code[0..n_code) and side do not go together; bytes[0..n) is
 * only as right as the code, which has no checksum here. */
enum status lanes_decode(struct lanes *lanes, uint8_t *bytes, size_t n,
                         struct range_coder *side, const uint8_t *code,
                         size_t n_code);

#endif

/* backlog.cuh -- the segments of a call, dealt out to microbatches.
 *
 * Every segment under way gets an equal share of the rows of a microbatch, but
 * not too few: fetching a state for a single row does not pay.  The first
 * segments that have more bytes get the rows that are left, so that streams of
 * all lengths keep the microbatches full.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BACKLOG_CUH
#define MAMBYTE_BACKLOG_CUH

#include "cuda/prefill/prefill_batch.cuh"

enum { ENOUGH_ROWS = 1024 }; /* of a microbatch: more only of a long input */

/* Bytes of one segment in a microbatch, for the host. */
struct segment_share {
    const struct segment *segment;
    size_t offset;
    int row, n;
    const struct host_floats *pinned; /* memory that the device may copy its
                                       * logits to, or NULL */
};

/* The bytes that a call has still to put into microbatches. */
struct backlog {
    const struct segment *segments;
    size_t n, next;
    struct segment_share active[ROWS_MAX]; /* segments that started    */
    int n_active;
    size_t left; /* bytes in no microbatch               */
    int rows;    /* of a microbatch                      */
    int least;   /* rows of a stream in it, where it has them */
    int starts;  /* of chunks in it, at most, not counting the first ones of
                  * segments; 0: as many as there are */
};

/* rows, least and starts are still to be chosen. */
void backlog_open(struct backlog *backlog, const struct segment *segments,
                  size_t n);

/* Rows of the microbatches of a call that runs alone; and of one that follows
 * another. */
int backlog_lone_rows(const struct backlog *backlog,
                      const struct prefill_batch *b);
int backlog_following_rows(const struct backlog *backlog,
                           const struct prefill_batch *b);

/* Whether all that is left fits in a microbatch. */
bool backlog_fits(const struct backlog *backlog);

/* Gives rows to the first active segments; returns how many got any. */
int backlog_share(struct backlog *backlog);

/* The rows of the first n active segments are in a microbatch. */
void backlog_advance(struct backlog *backlog, int n);

#endif

/* match.h -- where the last bytes of a slice have occurred before.
 *
 * A match predicts the byte that followed them then, and goes on.  After a
 * wrong prediction a long match still goes on, a few times: lines of a log
 * differ in a number, and are the same again after it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MATCH_H
#define MAMBYTE_MATCH_H

#include <stdint.h>

enum { SHORT_MATCH, LONG_MATCH, N_MATCHES };

struct match {
    uint32_t at;     /* position of the byte that it predicts; 0: no match */
    uint32_t length; /* bytes that it predicted right, since a wrong one   */
    uint32_t misses; /* bytes that it predicted wrong                      */
};

enum {
    MATCH_MISSES = 4,    /* after one more a long match ends               */
    MATCH_FORGIVEN = 16, /* bytes right, after which misses are forgotten  */
    MATCH_WEAK = 8,      /* bytes right, below which a match with misses is
                          * given up for another                           */
    MATCH_VERIFY = 32,   /* bytes compared when a match is found, at most  */
    MATCH_LENGTH_MAX = 1 << 16
};

/* After a byte: right or wrong. */
static inline void match_follow(struct match *match, int is_right, int is_long)
{
    if (match->at == 0)
        return;
    match->at++;
    if (is_right) {
        match->length += match->length < MATCH_LENGTH_MAX;
        if (match->length >= MATCH_FORGIVEN)
            match->misses = 0;
        return;
    }
    match->length = 0;
    if (!is_long || match->misses++ >= MATCH_MISSES)
        *match = (struct match){0};
}

static inline int match_wants_another(const struct match *match)
{
    return match->at == 0 || (match->misses > 0 && match->length < MATCH_WEAK);
}

enum { MATCH_LENGTHS = 32, MATCH_KINDS = MATCH_LENGTHS * MATCH_MISSES };

/* By length and misses: matches of a kind are about as likely right. */
static inline int match_kind(const struct match *match)
{
    uint32_t n = match->length;
    uint32_t length = n < 16    ? n
                      : n < 32  ? 16 + (n - 16) / 4
                      : n < 64  ? 20 + (n - 32) / 8
                      : n < 128 ? 24 + (n - 64) / 16
                      : n < 512 ? 28 + (n - 128) / 128
                                : 31;
    uint32_t misses =
        match->misses < MATCH_MISSES ? match->misses : MATCH_MISSES - 1;
    return (int)(length * MATCH_MISSES + misses);
}

#endif

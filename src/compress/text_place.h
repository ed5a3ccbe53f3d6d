/* text_place.h -- where a slice stands in its lines and fields.
 *
 * Logs, tables and code repeat themselves by column and by field: the bytes
 * above, in the line before, say more than the bytes just before.  All data
 * have lines and fields in this sense; where they mean nothing, the mixer
 * learns to ignore them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TEXT_PLACE_H
#define MAMBYTE_TEXT_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { N_FIELDS = 32 /* that are told apart; the next is field 0 again */ };

/* A position is one in the bytes of a predictor.  Hashes are 0 for nothing. */
struct text_place {
    uint32_t line, line_above; /* where they start                           */
    uint32_t field;            /* fields that ended in this line             */
    uint32_t field_length;     /* bytes of this field so far                 */
    uint32_t field_hash;       /* of those bytes                             */
    uint32_t skeleton;         /* hash of the line so far without its digits */
    uint32_t n_digits;         /* digits just before                         */
    uint32_t fields[N_FIELDS]; /* where they start; 0: there is none   */
    uint32_t fields_above[N_FIELDS]; /* those of the line above              */
};

static inline uint32_t text_hash(uint32_t hash, uint32_t byte)
{
    return (hash + byte + 1) * 0x3d4d51cbu;
}

static inline bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static inline bool ends_field(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == ',' || byte == ';' ||
           byte == ':' || byte == '=' || byte == '|';
}

static inline void text_field(struct text_place *place, uint32_t start)
{
    place->fields[place->field % N_FIELDS] = start;
    place->field_hash = place->field_length = 0;
}

static inline void text_line(struct text_place *place, uint32_t start)
{
    place->line_above = place->line;
    place->line = start;
    memcpy(place->fields_above, place->fields, sizeof place->fields);
    memset(place->fields, 0, sizeof place->fields);
    place->skeleton = place->field = 0;
    text_field(place, start);
}

/* After a byte; next is the position after it. */
static inline void text_advance(struct text_place *place, uint8_t byte,
                                uint32_t next)
{
    if (is_digit(byte)) {
        place->n_digits++;
    } else {
        place->n_digits = 0;
        place->skeleton = text_hash(place->skeleton, byte);
    }
    if (byte == '\n') {
        text_line(place, next);
    } else if (ends_field(byte)) {
        place->field++;
        text_field(place, next);
    } else {
        place->field_hash = text_hash(place->field_hash, byte);
        place->field_length++;
    }
}

/* The byte above the next one, in the same column; 0: there is none. */
static inline uint32_t text_above(const struct text_place *place,
                                  const uint8_t *bytes, uint32_t next)
{
    uint32_t at = place->line_above + (next - place->line);
    return at < place->line ? bytes[at] : 0;
}

/* In the line above, in the field of the same number: the byte as far into it
 * as the next one, and the byte after that one << 8. */
static inline uint32_t text_field_above(const struct text_place *place,
                                        const uint8_t *bytes)
{
    uint32_t start = place->fields_above[place->field % N_FIELDS];
    uint32_t at = start + place->field_length;
    if (start == 0 || at >= place->line)
        return 0;
    uint32_t after = at + 1 < place->line ? bytes[at + 1] : 0;
    return bytes[at] | after << 8;
}

#endif

/* json.h -- writes JSON Lines: one object on each line, its keys in the order
 * given.
 *
 *     json_begin(sink);
 *     json_put_string(sink, "file", name, strlen(name));
 *     json_put_number(sink, "bits", bits);
 *     json_end(sink);
 *
 * Strings are UTF-8; each byte that is not becomes U+FFFD.  A number that is
 * not finite is null.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_JSON_H
#define MAMBYTE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"

enum status json_begin(struct sink *sink);
enum status json_put_string(struct sink *sink, const char *key,
                            const void *bytes, size_t n);
enum status json_put_integer(struct sink *sink, const char *key,
                             uint64_t value);

/* As sink_number writes it. */
enum status json_put_number(struct sink *sink, const char *key, double value);

/* The same with seven digits and an exponent, for very small numbers. */
enum status json_put_float(struct sink *sink, const char *key, float value);
enum status json_end(struct sink *sink);

/* An object within the object; its keys may be any text. */
enum status json_open(struct sink *sink, const char *key);
enum status json_close(struct sink *sink);

#endif

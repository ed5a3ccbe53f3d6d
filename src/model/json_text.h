/* json_text.h -- JSON from and to text, all or none.
 *
 * When memory runs out, jansson may silently leave out characters, both when it
 * reads and when it writes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_JSON_TEXT_H
#define MAMBYTE_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

/* As json_loadb(): *json is NULL, and *error (which may be NULL) says why, when
 * text[0..n) is not JSON.  E_MEMORY when there is no memory. */
enum status json_text_parse(json_t **json, const char *text, size_t n,
                            size_t flags, json_error_t *error);

/* As json_dumps().  To be freed; NULL when json is, or when there is no
 * memory. */
char *json_text(const json_t *json, size_t flags);

#endif

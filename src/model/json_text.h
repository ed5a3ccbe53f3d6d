/* json_text.h -- JSON as text, all or none.
 *
 * json_dumps() of jansson may leave parts out when memory runs out.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_JSON_TEXT_H
#define MAMBYTE_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

/* flags: of json_dumps().  To be freed; NULL when json is, or when there is no
 * memory. */
char *json_text(const json_t *json, size_t flags);

#endif

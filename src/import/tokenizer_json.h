/* tokenizer_json.h -- tokenizer.json and similar files: whether the number of
 * each token is its byte; and a tokenizer of which that is true.
 *
 * A tokenizer of bytes has a token for each byte and joins none.  As JSON is
 * text, a byte is written as a character (that of GPT-2, or of Latin-1), or as
 * "<0x41>".
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TOKENIZER_JSON_H
#define MAMBYTE_TOKENIZER_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"

/* What files say about tokens.  Start with all zero. */
struct tokenizer_tokens {
    bool is_byte[256];
    int n_bytes; /* how many are true */
};

/* Takes what a file of this name says: tokenizer.json, tokenizer_config.json,
 * vocab.json or added_tokens.json.  E_MODEL when it says that a token below 256
 * is not the byte of that number, or that bytes are joined. */
enum status tokenizer_json_read(struct tokenizer_tokens *tokens,
                                const json_t *json, const char *name);

/* A tokenizer of the 256 bytes, as transformers reads it.  begin_byte: what
 * it puts before a text; -1: nothing.  NULL without memory. */
json_t *tokenizer_json_make(int begin_byte);

/* Its tokenizer_config.json. */
json_t *tokenizer_json_make_config(int begin_byte);

#endif

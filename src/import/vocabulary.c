/* vocabulary.c -- whether the tokens of a checkpoint are the bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/vocabulary.h"

#include <inttypes.h>

#include "import/json_file.h"
#include "import/tokenizer_json.h"
#include "model/model.h"

enum { PADDED_MAX = 512, PADDING_UNIT = 8 };

#define CUT "--vocabulary=cut"

static const char *const tokenizer_files[] = {
    "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "added_tokens.json"};

/* ---- special tokens of config.json --------------------------------------- */

/* The special tokens from 256 on, by config.json: [n], without doubles. */
struct special {
    json_int_t ids[PADDED_MAX - N_BYTES_VOCAB];
    uint64_t n;
};

static void add_special(struct special *special, const json_t *value)
{
    json_int_t id = json_integer_value(value);
    for (size_t i = 0; i < json_array_size(value); i++)
        add_special(special, json_array_get(value, i));
    if (id < N_BYTES_VOCAB || id >= PADDED_MAX)
        return;
    for (uint64_t i = 0; i < special->n; i++) {
        if (special->ids[i] == id)
            return;
    }
    special->ids[special->n++] = id;
}

static uint64_t count_special(const json_t *config)
{
    static const char *const keys[] = {"bos_token_id", "eos_token_id",
                                       "pad_token_id"};
    struct special special = {.n = 0};
    for (int i = 0; i < 3; i++)
        add_special(&special, json_object_get(config, keys[i]));
    return special.n;
}

/* ---- tokenizers ---------------------------------------------------------- */

static enum status read_tokenizers(struct tokenizer_tokens *tokens,
                                   const struct foreign *foreign)
{
    const size_t n = sizeof tokenizer_files / sizeof tokenizer_files[0];
    enum status status = OK;
    for (size_t i = 0; i < n && status == OK; i++) {
        json_t *json;
        TRY(foreign_read_json(&json, foreign, tokenizer_files[i],
                              TOKENIZER_BYTES_MAX));
        status = tokenizer_json_read(tokens, json, tokenizer_files[i]);
        json_decref(json);
    }
    return status;
}

/* ---- the whole ----------------------------------------------------------- */

static enum status refuse(uint64_t n)
{
    return fail(E_MODEL,
                "the vocabulary has %" PRIu64 " tokens, which are not the 256 "
                "bytes: mambyte reads bytes, and has no tokenizer",
                n);
}

/* n tokens of 256 to 512. */
static enum status check_rest(const struct foreign *foreign, uint64_t n,
                              const struct tokenizer_tokens *tokens)
{
    uint64_t n_rest = n - N_BYTES_VOCAB;
    if (n % PADDING_UNIT == 0 || tokens->n_bytes == N_BYTES_VOCAB ||
        count_special(foreign->config) >= n_rest)
        return OK;
    return fail(E_MODEL,
                "the vocabulary has %" PRIu64 " tokens, which are not the 256 "
                "bytes as far as the checkpoint shows: " CUT " takes the first "
                "256 as the bytes",
                n);
}

enum status vocabulary_check(const struct foreign *foreign, uint64_t rows,
                             uint64_t said, bool insists)
{
    struct tokenizer_tokens tokens = {.n_bytes = 0};
    uint64_t n = said > 0 ? said : rows;
    if (rows < N_BYTES_VOCAB || (insists && n < N_BYTES_VOCAB))
        return refuse(rows);
    if (insists)
        return OK;
    if (rows > PADDED_MAX)
        return refuse(rows);
    if (said > rows && said <= PADDED_MAX)
        return fail(E_MODEL,
                    "config.json says that vocab_size is %" PRIu64
                    ", the tensors that it is %" PRIu64,
                    said, rows);
    if (n < N_BYTES_VOCAB || n > PADDED_MAX)
        return refuse(n);
    TRY(read_tokenizers(&tokens, foreign));
    return check_rest(foreign, n, &tokens);
}

/* fuzz_foreign_json.c -- any bytes as a JSON file beside a checkpoint.
 *
 * The first byte says which one: config.json of Mamba-1 or of Mamba-2, or a
 * tokenizer.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "import/config_json.h"
#include "import/families.h"
#include "import/json_file.h"
#include "import/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const char *const tokenizers[] = {"tokenizer.json",
                                         "tokenizer_config.json", "vocab.json",
                                         "added_tokens.json"};

enum { N_TOKENIZERS = sizeof tokenizers / sizeof tokenizers[0] };

static void require(int is_true)
{
    if (!is_true)
        abort();
}

static void require_sentence(enum status status)
{
    require(status == OK || status == E_MODEL);
    require(status == OK || status_message()[0] != '\0');
}

/* What adopt.c relies on. */
static void check_says(const struct config_json *says)
{
    require(says->vocabulary <= INT32_MAX);
    require(says->begin_byte >= -1 && says->begin_byte < N_BYTES_VOCAB);
    require(says->n_groups >= 0 && says->n_groups <= MAMBA2_GROUPS_MAX);
    require(says->norm_epsilon >= 0 && says->norm_epsilon <= 1);
    require(says->delta_min >= 0 && says->delta_min <= says->delta_max);
}

static void read_config(const json_t *json, enum mixer mixer)
{
    const struct model_config c = {.mixer = mixer,
                                   .d_model = 16,
                                   .n_layer = 2,
                                   .d_inner = 32,
                                   .d_state = 16,
                                   .d_conv = 4,
                                   .dt_rank = mixer == MIXER_MAMBA1,
                                   .n_heads = 4,
                                   .headdim = 8,
                                   .n_groups = 1};
    struct config_json says;
    require_sentence(families_check_config(json));
    enum status status = config_json_read(&says, json, mixer);
    require_sentence(status);
    if (status == OK) {
        check_says(&says);
        require_sentence(config_json_check(json, &c, true));
    }
}

static void read_tokenizer(const json_t *json, const char *name)
{
    struct tokenizer_tokens tokens = {.n_bytes = 0};
    require_sentence(tokenizer_json_read(&tokens, json, name));
    int n = 0;
    for (int i = 0; i < 256; i++)
        n += tokens.is_byte[i];
    require(n == tokens.n_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    json_t *json;
    if (n == 0)
        return 0;
    int kind = bytes[0] % (2 + N_TOKENIZERS);
    char *text = malloc(n);
    require(text != NULL);
    memcpy(text, bytes + 1, n - 1);
    enum status status = json_file_parse(&json, "fuzz", text, n - 1);
    require_sentence(status);
    require((status == OK) == (json != NULL));
    if (json && kind < 2)
        read_config(json, (enum mixer)kind);
    else if (json)
        read_tokenizer(json, tokenizers[kind - 2]);
    json_decref(json);
    free(text);
    return 0;
}

/* tokenizer_json.c -- tokenizer.json and its like.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/tokenizer_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"
#include "base/text.h"

enum { CHARACTER_BYTES = 3, FIRST_SUBSTITUTE = 0x100 };

/* ---- bytes as characters ------------------------------------------------- */

/* Those that GPT-2 writes as they are in Latin-1. */
static bool is_graphic(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
           byte >= 0xae;
}

/* The character that stands for a byte: the others follow each other. */
static int character_of(int byte)
{
    int character = FIRST_SUBSTITUTE;
    for (int i = 0; i < byte; i++)
        character += !is_graphic(i);
    return is_graphic(byte) ? byte : character;
}

/* In UTF-8; character is below 0x800. */
static const char *encode(char text[CHARACTER_BYTES], int character)
{
    int n = 0;
    if (character >= 0x80)
        text[n++] = (char)(0xc0 | character >> 6);
    text[n++] =
        (char)(character >= 0x80 ? 0x80 | (character & 0x3f) : character);
    text[n] = '\0';
    return text;
}

static bool is_byte(const char *token, int byte)
{
    char character[CHARACTER_BYTES], number[8];
    snprintf(number, sizeof number, "<0x%02X>", (unsigned)byte);
    return strcmp(token, number) == 0 ||
           strcmp(token, encode(character, byte)) == 0 ||
           strcmp(token, encode(character, character_of(byte))) == 0;
}

/* ---- reading ------------------------------------------------------------ */

static enum status take_token(struct tokenizer_tokens *tokens,
                              const char *token, json_int_t id,
                              const char *name)
{
    char shown[PRINTABLE_CHARS];
    if (id < 0 || id >= 256)
        return OK;
    if (!token || !is_byte(token, (int)id))
        return fail(E_MODEL,
                    "%s says that token %d is %s: its tokens are not "
                    "the bytes of their numbers",
                    name, (int)id,
                    token ? printable_start(shown, token, strlen(token))
                          : "not a string");
    tokens->n_bytes += !tokens->is_byte[id];
    tokens->is_byte[id] = true;
    return OK;
}

/* {token: number} */
static enum status take_numbers(struct tokenizer_tokens *tokens,
                                const json_t *map, const char *name)
{
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)map, token, id)
    {
        if (json_is_integer(id))
            TRY(take_token(tokens, token, json_integer_value(id), name));
    }
    return OK;
}

/* [{"id": number, "content": token}] */
static enum status take_list(struct tokenizer_tokens *tokens,
                             const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const json_t *id = json_object_get(item, "id");
        const json_t *content = json_object_get(item, "content");
        if (json_is_integer(id))
            TRY(take_token(tokens, json_string_value(content),
                           json_integer_value(id), name));
    }
    return OK;
}

/* {"number": {"content": token}} */
static enum status take_decoder(struct tokenizer_tokens *tokens,
                                const json_t *map, const char *name)
{
    const char *id;
    json_t *item;
    json_object_foreach((json_t *)map, id, item)
    {
        const json_t *content = json_object_get(item, "content");
        TRY(take_token(tokens, json_string_value(content),
                       strtoll(id, NULL, 10), name));
    }
    return OK;
}

static enum status take_tokenizer(struct tokenizer_tokens *tokens,
                                  const json_t *json, const char *name)
{
    const json_t *model = json_object_get(json, "model");
    if (json_array_size(json_object_get(model, "merges")) > 0)
        return fail(E_MODEL, "%s joins bytes: its tokens are not bytes", name);
    TRY(take_numbers(tokens, json_object_get(model, "vocab"), name));
    return take_list(tokens, json_object_get(json, "added_tokens"), name);
}

static enum status take_config(struct tokenizer_tokens *tokens,
                               const json_t *json, const char *name)
{
    const json_t *class = json_object_get(json, "tokenizer_class");
    const char *text = json_string_value(class);
    if (text && text_starts_with(text, "ByT5"))
        return fail(E_MODEL,
                    "%s says that the tokenizer is %.32s: its tokens "
                    "are bytes plus 3",
                    name, text);
    return take_decoder(tokens, json_object_get(json, "added_tokens_decoder"),
                        name);
}

enum status tokenizer_json_read(struct tokenizer_tokens *tokens,
                                const json_t *json, const char *name)
{
    if (strcmp(name, "tokenizer.json") == 0)
        return take_tokenizer(tokens, json, name);
    if (strcmp(name, "tokenizer_config.json") == 0)
        return take_config(tokens, json, name);
    return take_numbers(tokens, json, name);
}

/* ---- writing ------------------------------------------------------------ */

static json_t *make_vocabulary(void)
{
    char token[CHARACTER_BYTES];
    json_t *vocabulary = json_object();
    for (int i = 0; i < 256 && vocabulary; i++) {
        if (json_object_set_new(vocabulary, encode(token, character_of(i)),
                                json_integer(i)) != 0) {
            json_decref(vocabulary);
            vocabulary = NULL;
        }
    }
    return vocabulary;
}

/* What puts the begin byte before a text; null: nothing does. */
static json_t *make_processor(int begin_byte)
{
    char token[CHARACTER_BYTES];
    if (begin_byte < 0)
        return json_null();
    encode(token, character_of(begin_byte));
    return json_pack(
        "{ss s[{s{sssi}} {s{sssi}}] s[{s{sssi}} {s{sssi}} {s{sssi}} "
        "{s{sssi}}] s{s{sss[i]s[s]}}}",
        "type", "TemplateProcessing", "single", "SpecialToken", "id", token,
        "type_id", 0, "Sequence", "id", "A", "type_id", 0, "pair",
        "SpecialToken", "id", token, "type_id", 0, "Sequence", "id", "A",
        "type_id", 0, "SpecialToken", "id", token, "type_id", 0, "Sequence",
        "id", "B", "type_id", 0, "special_tokens", token, "id", token, "ids",
        begin_byte, "tokens", token);
}

json_t *tokenizer_json_make(int begin_byte)
{
    json_t *vocabulary = make_vocabulary();
    json_t *processor = make_processor(begin_byte);
    return json_pack(
        "{ss sn sn s[] sn s{ss sb sb sb} so s{ss sb sb sb} s{ss sn sn sn sn sb "
        "sb sb so s[]}}",
        "version", "1.0", "truncation", "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
        "trim_offsets", 0, "use_regex", 0, "post_processor", processor,
        "decoder", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets",
        0, "use_regex", 0, "model", "type", "BPE", "dropout", "unk_token",
        "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
        "byte_fallback", 0, "ignore_merges", 0, "vocab", vocabulary, "merges");
}

json_t *tokenizer_json_make_config(int begin_byte)
{
    char token[CHARACTER_BYTES];
    json_t *config =
        json_pack("{ss sb}", "tokenizer_class", "PreTrainedTokenizerFast",
                  "clean_up_tokenization_spaces", 0);
    if (config && begin_byte >= 0 &&
        json_object_set_new(
            config, "bos_token",
            json_string(encode(token, character_of(begin_byte)))) != 0) {
        json_decref(config);
        return NULL;
    }
    return config;
}

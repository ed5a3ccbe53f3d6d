/* json_file.c -- reads the JSON files that lie beside a checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/json_file.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteio.h"
#include "base/memlimit.h"
#include "base/utf8.h"
#include "model/file_kind.h"
#include "model/json_text.h"

/* As long a number takes the place of each Infinity outside of strings. */
static void replace_infinities(char *text, size_t n_text)
{
    static const char name[] = "Infinity", number[] = "1.0e+300";
    const size_t n = sizeof name - 1;
    bool is_string = false;
    for (size_t i = 0; i < n_text; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == '"')
            is_string = !is_string;
        else if (!is_string && n_text - i >= n &&
                 memcmp(text + i, name, n) == 0)
            memcpy(text + i, number, n);
    }
}

enum status json_file_parse(json_t **json, const char *path, char *text,
                            size_t n)
{
    const size_t n_mark = utf8_mark_length((const uint8_t *)text, n);
    json_error_t error;
    *json = NULL;
    if (file_kind_check((const uint8_t *)text, n) != OK)
        return status_prefix(E_MODEL, path);
    text += n_mark;
    n -= n_mark;
    TRY(memlimit_check_json(text, n, path));
    replace_infinities(text, n);
    TRY(json_text_parse(json, text, n, JSON_REJECT_DUPLICATES, &error));
    if (!*json)
        return fail(E_MODEL, "%s: is not valid JSON in line %d", path,
                    error.line);
    if (json_is_object(*json))
        return OK;
    json_decref(*json);
    *json = NULL;
    return fail(E_MODEL, "%s: is not a JSON object", path);
}

/* *text: [*n], for the caller to free; a file that grows meanwhile is read as
 * far as its size was. */
static enum status read_text(char **text, size_t *n, struct source *source,
                             size_t most)
{
    if (source->size > most)
        return fail(E_MODEL, "%s: is larger than %zu bytes", source->path,
                    most);
    *text = malloc((size_t)source->size + 1);
    if (!*text)
        return fail_memory(source->path);
    return source_read_full(source, (uint8_t *)*text, (size_t)source->size, n);
}

enum status json_file_read(json_t **json, const char *path, size_t most)
{
    struct source source;
    char *text = NULL;
    size_t n;
    *json = NULL;
    TRY(file_kind_check_regular(path));
    TRY(source_open(&source, path));
    enum status status = read_text(&text, &n, &source, most);
    source_close(&source);
    if (status == OK)
        status = json_file_parse(json, path, text, n);
    free(text);
    return status;
}

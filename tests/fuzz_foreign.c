/* fuzz_foreign.c -- any bytes as what describes a checkpoint in shards.
 *
 * Four texts with a NUL between them: model.safetensors.index.json,
 * config.json, tokenizer.json (a text that is empty is no file), and names, one
 * a line, for the tensors in place of their own.  The shards one.safetensors
 * and two.safetensors are always the same.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import/adopt.h"
#include "model/safetensors_write.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { N_FILES = 3, TENSORS_MAX = 64 };

static const char *const shards[] = {"one.safetensors", "two.safetensors"};
static const char *const files[N_FILES] = {"model.safetensors.index.json",
                                           "config.json", "tokenizer.json"};
static char folder[256];

static void require(int is_true)
{
    if (!is_true)
        abort();
}

static const char *in_folder(char path[512], const char *name)
{
    snprintf(path, 512, "%s/%s", folder, name);
    return path;
}

static void remove_all(void)
{
    char path[512];
    for (int i = 0; i < 2; i++)
        unlink(in_folder(path, shards[i]));
    for (int i = 0; i < N_FILES; i++)
        unlink(in_folder(path, files[i]));
    rmdir(folder);
}

/* Half of the tensors of a tiny model each. */
static void write_shards(void)
{
    struct tiny_spec spec = tiny_spec_make(4, 1, 5);
    struct safetensors *file;
    struct tensor list[TENSORS_MAX];
    uint8_t *bytes;
    size_t n_bytes;
    char path[512];
    spec.weights = DTYPE_F32;
    require(tiny_model_make(&spec, &bytes, &n_bytes) == OK);
    require(safetensors_open_memory(&file, "tiny", bytes, n_bytes) == OK);
    size_t n = safetensors_count(file), half = n / 2;
    require(n <= TENSORS_MAX);
    for (size_t i = 0; i < n; i++)
        list[i] = *safetensors_at(file, i);
    struct safetensors_content one = {NULL, 0, list, half},
                               two = {NULL, 0, list + half, n - half};
    require(safetensors_write(in_folder(path, shards[0]), &one) == OK);
    require(safetensors_write(in_folder(path, shards[1]), &two) == OK);
    safetensors_close(file);
    free(bytes);
}

static void make_folder(void)
{
    const char *where = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/fuzz-XXXXXX",
             where ? where : "/tmp");
    require(mkdtemp(folder) != NULL);
    atexit(remove_all);
    write_shards();
}

/* Takes the next text off the input. */
static const char *next_text(const char **text, size_t *left, size_t *n)
{
    const char *start = *text;
    const char *end = memchr(start, '\0', *left);
    *n = end ? (size_t)(end - start) : *left;
    size_t used = *n + (end != NULL);
    *text += used;
    *left -= used;
    return start;
}

static void write_text(const char *name, const char *text, size_t n)
{
    char path[512];
    unlink(in_folder(path, name));
    if (n == 0)
        return;
    FILE *file = fopen(path, "wb");
    require(file != NULL && fwrite(text, 1, n, file) == n);
    fclose(file);
}

/* list: the tensors of foreign, whose names become the lines of text; names:
 * room for them. */
static void rename_tensors(struct foreign *foreign, struct tensor *list,
                           char (*names)[TENSOR_NAME_CHARS], const char *text,
                           size_t n)
{
    for (size_t i = 0; i < foreign->n && i < TENSORS_MAX; i++) {
        list[i] = foreign->tensors[i];
        const char *end = n > 0 ? memchr(text, '\n', n) : NULL;
        size_t length = end ? (size_t)(end - text) : n;
        if (length > 0 && length < TENSOR_NAME_CHARS) {
            memcpy(names[i], text, length);
            names[i][length] = '\0';
            list[i].name = names[i];
        }
        text += length + (end != NULL);
        n -= length + (end != NULL);
    }
    foreign->tensors = list;
}

static void adopt_any_way(struct foreign *foreign)
{
    struct adopted adopted;
    for (int cuts = 0; cuts < 2; cuts++) {
        const struct adopt_options options = {.begin_byte = BEGIN_BYTE_AS_SAID,
                                              .cuts_vocabulary = cuts};
        enum status status = adopt(&adopted, foreign, &options);
        require(status == OK || status == E_MODEL);
        require((status == OK) == (adopted.model != NULL));
        if (status != OK) {
            require(status_message()[0] != '\0');
            continue;
        }
        struct fingerprint fingerprint;
        model_fingerprint(adopted.model, &fingerprint);
        adopted_close(&adopted);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct tensor list[TENSORS_MAX];
    static char names[TENSORS_MAX][TENSOR_NAME_CHARS];
    const char *text = (const char *)bytes;
    size_t n_text;
    struct foreign foreign;
    if (!*folder)
        make_folder();
    for (int i = 0; i < N_FILES; i++) {
        const char *start = next_text(&text, &n, &n_text);
        write_text(files[i], start, n_text);
    }
    enum status status = foreign_open(&foreign, folder);
    require(status == OK || status_message()[0] != '\0');
    if (status != OK)
        return 0;
    const struct tensor *own = foreign.tensors;
    rename_tensors(&foreign, list, names, text, n);
    adopt_any_way(&foreign);
    foreign.tensors = own;
    foreign_close(&foreign);
    return 0;
}

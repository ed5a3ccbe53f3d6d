/* safetensors_write.c -- writes a .safetensors file, whole or not at all.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/safetensors_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic_file.h"
#include "base/little_endian.h"
#include "base/memory_stream.h"

enum { ALIGNMENT = 8, LENGTH_BYTES = 8, BUFFER_FLOATS = 4096 };

static size_t bytes_of(const struct tensor *tensor)
{
    return (size_t)tensor_elements(tensor) * dtype_size(tensor->dtype);
}

/* ---- the header --------------------------------------------------------- */

static void print_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < ' ')
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void print_metadata(FILE *out, const struct safetensors_content *content)
{
    fputs("{\"__metadata__\":{", out);
    for (size_t i = 0; i < content->n_metadata; i++) {
        if (i > 0)
            fputc(',', out);
        print_string(out, content->metadata[i].key);
        fputc(':', out);
        print_string(out, content->metadata[i].value);
    }
    fputc('}', out);
}

static void print_tensor(FILE *out, const struct tensor *tensor, size_t begin)
{
    fputc(',', out);
    print_string(out, tensor->name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->n_dims; i++)
        fprintf(out, "%s%" PRIu64, i > 0 ? "," : "", tensor->shape[i]);
    fprintf(out, "],\"data_offsets\":[%zu,%zu]}", begin,
            begin + bytes_of(tensor));
}

/* *header: the JSON, padded so that data are aligned; to be freed. */
static enum status make_header(char **header, size_t *n,
                               const struct safetensors_content *content)
{
    FILE *out = memory_stream_open(header, n);
    if (!out)
        return fail_memory("a header");
    print_metadata(out, content);
    size_t begin = 0;
    for (size_t i = 0; i < content->n_tensors; i++) {
        print_tensor(out, &content->tensors[i], begin);
        begin += bytes_of(&content->tensors[i]);
    }
    fputc('}', out);
    for (long at = ftell(out); at % ALIGNMENT != 0; at++)
        fputc(' ', out);
    return memory_stream_close(out, header, "a header");
}

/* ---- the whole ---------------------------------------------------------- */

static void store_float(uint8_t *p, const uint8_t *x)
{
    uint32_t bits;
    memcpy(&bits, x, sizeof bits);
    store_le(p, bits, 4);
}

/* x: [n] floats, perhaps not aligned. */
static bool write_floats(FILE *out, const uint8_t *x, size_t n)
{
    uint8_t buffer[4 * BUFFER_FLOATS];
    for (size_t done = 0; done < n;) {
        size_t m = n - done < BUFFER_FLOATS ? n - done : BUFFER_FLOATS;
        for (size_t i = 0; i < m; i++)
            store_float(buffer + 4 * i, x + 4 * (done + i));
        if (fwrite(buffer, 4, m, out) != m)
            return false;
        done += m;
    }
    return true;
}

static bool write_tensor(FILE *out, const struct tensor *tensor)
{
    size_t n = (size_t)tensor_elements(tensor);
    if (tensor->dtype == DTYPE_F32)
        return write_floats(out, tensor->data, n);
    return fwrite(tensor->data, dtype_size(tensor->dtype), n, out) == n;
}

static bool write_content(FILE *out, const char *header, size_t n_header,
                          const struct safetensors_content *content)
{
    uint8_t length[LENGTH_BYTES];
    store_le(length, n_header, LENGTH_BYTES);
    bool is_written = fwrite(length, 1, LENGTH_BYTES, out) == LENGTH_BYTES &&
                      fwrite(header, 1, n_header, out) == n_header;
    for (size_t i = 0; is_written && i < content->n_tensors; i++)
        is_written = write_tensor(out, &content->tensors[i]);
    return is_written && fflush(out) == 0 && !ferror(out);
}

enum status safetensors_write_stream(FILE *out,
                                     const struct safetensors_content *content)
{
    char *header = NULL;
    size_t n_header = 0;
    enum status status = make_header(&header, &n_header, content);
    if (status == OK && !write_content(out, header, n_header, content))
        status = fail(E_IO, "%s", strerror(errno));
    free(header);
    return status;
}

enum status safetensors_write_memory(uint8_t **bytes, size_t *n,
                                     const struct safetensors_content *content)
{
    char *text;
    *bytes = NULL;
    FILE *out = memory_stream_open(&text, n);
    if (!out)
        return fail_memory("a model");
    enum status status = safetensors_write_stream(out, content);
    enum status closed = memory_stream_close(out, &text, "a model");
    if (status == OK && closed == OK)
        *bytes = (uint8_t *)text;
    else
        free(text);
    return status == OK ? closed : status;
}

/* ---- the file ----------------------------------------------------------- */

enum status safetensors_write(const char *path,
                              const struct safetensors_content *content)
{
    struct atomic_file file;
    TRY(atomic_file_open(&file, path, ATOMIC_FOLLOW));
    enum status status = safetensors_write_stream(file.stream, content);
    if (status == OK)
        return atomic_file_commit(&file);
    atomic_file_abandon(&file);
    return status_prefix(status, path);
}

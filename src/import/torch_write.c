/* torch_write.c -- writes a state dict as torch.save does.
 *
 * See torch_archive.h for the archive, pickle.h for the pickle.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/torch_write.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "base/memory_stream.h"
#include "import/zip_output.h"

#define FOLDER "pytorch_model/"

/* 1980, the earliest time in a zip archive: the same model always gives the
 * same file. */
enum { MTIME = 315532800 };

/* The first tensor with the same data. */
static size_t storage_of(const struct tensor *tensors, size_t i)
{
    size_t first = 0;
    while (tensors[first].data != tensors[i].data)
        first++;
    return first;
}

/* ---- the pickle --------------------------------------------------------- */

static void put_little_endian(FILE *out, uint64_t x, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        fputc((int)(x >> 8 * i & 0xff), out);
}

static void put_text(FILE *out, const char *text)
{
    fputc('X', out);
    put_little_endian(out, strlen(text), 4);
    fputs(text, out);
}

/* LONG1, of seven bytes. */
static void put_number(FILE *out, uint64_t number)
{
    fputs("\x8a\x07", out);
    put_little_endian(out, number, 7);
}

static void put_storage(FILE *out, size_t storage, uint64_t n)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", storage);
    fputc('(', out);
    put_text(out, "storage");
    fputs("ctorch\nFloatStorage\n", out);
    put_text(out, key);
    put_text(out, "cpu");
    put_number(out, n);
    fputs("tQ", out);
}

static void put_tensor(FILE *out, const struct tensor *tensor, size_t storage)
{
    put_text(out, tensor->name);
    fputs("ctorch._utils\n_rebuild_tensor_v2\n(", out);
    put_storage(out, storage, tensor_elements(tensor));
    put_number(out, 0);
    fputc('(', out);
    for (int i = 0; i < tensor->n_dims; i++)
        put_number(out, tensor->shape[i]);
    fputs("t(", out);
    for (int i = 0; i < tensor->n_dims; i++) {
        uint64_t stride = 1;
        for (int k = i + 1; k < tensor->n_dims; k++)
            stride *= tensor->shape[k];
        put_number(out, stride);
    }
    fputs("t\x89"
          "ccollections\nOrderedDict\n)RtR",
          out);
}

/* *bytes is to be freed. */
static enum status make_pickle(char **bytes, size_t *n_bytes,
                               const struct tensor *tensors, size_t n)
{
    FILE *out = memory_stream_open(bytes, n_bytes);
    if (!out)
        return fail_memory("a pickle");
    fputs("\x80\x02"
          "ccollections\nOrderedDict\n)R(",
          out);
    for (size_t i = 0; i < n; i++)
        put_tensor(out, &tensors[i], storage_of(tensors, i));
    fputs("u.", out);
    return memory_stream_close(out, bytes, "a pickle");
}

/* ---- the archive -------------------------------------------------------- */

/* The bytes have to stay until the archive is closed. */
static enum status add_entry(zip_t *zip, const char *name, const void *bytes,
                             uint64_t n)
{
    zip_source_t *source = zip_source_buffer(zip, bytes, n, 0);
    zip_int64_t i =
        source ? zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8) : -1;
    if (i >= 0 && zip_file_set_mtime(zip, (zip_uint64_t)i, MTIME, 0) == 0 &&
        zip_set_file_compression(zip, (zip_uint64_t)i, ZIP_CM_STORE, 0) == 0)
        return OK;
    if (i < 0)
        zip_source_free(source);
    return fail(E_IO, "%s", zip_strerror(zip));
}

static enum status add_entries(zip_t *zip, const char *pickle, size_t n_pickle,
                               const struct tensor *tensors, size_t n)
{
    const uint32_t one = 1;
    const char *order = *(const uint8_t *)&one == 1 ? "little" : "big";
    TRY(add_entry(zip, FOLDER "data.pkl", pickle, n_pickle));
    TRY(add_entry(zip, FOLDER "byteorder", order, strlen(order)));
    for (size_t i = 0; i < n; i++) {
        char name[64];
        if (storage_of(tensors, i) != i)
            continue;
        snprintf(name, sizeof name, FOLDER "data/%zu", i);
        TRY(add_entry(zip, name, tensors[i].data,
                      tensor_elements(&tensors[i]) * sizeof(float)));
    }
    return add_entry(zip, FOLDER "version", "3\n", 2);
}

static enum status write_archive(FILE *out, const char *pickle, size_t n_pickle,
                                 const struct tensor *tensors, size_t n)
{
    struct zip_output output;
    zip_error_t error;
    zip_t *zip = zip_output_open(&output, out, &error);
    if (!zip) {
        enum status status = fail(E_IO, "%s", zip_error_strerror(&error));
        zip_error_fini(&error);
        return status;
    }
    enum status status = add_entries(zip, pickle, n_pickle, tensors, n);
    if (status == OK && zip_close(zip) == 0)
        return OK;
    if (status == OK)
        status = fail(E_IO, "%s", zip_strerror(zip));
    zip_discard(zip);
    return status;
}

enum status torch_write(FILE *out, const struct tensor *tensors, size_t n)
{
    char *pickle;
    size_t n_pickle;
    TRY(make_pickle(&pickle, &n_pickle, tensors, n));
    enum status status = write_archive(out, pickle, n_pickle, tensors, n);
    free(pickle);
    return status;
}

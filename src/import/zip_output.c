/* zip_output.c -- lets libzip write to a stream.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/zip_output.h"

#include <errno.h>

static zip_int64_t system_error(struct zip_output *o, int kind, int number)
{
    zip_error_set(&o->error, kind, number);
    return -1;
}

static zip_int64_t seek(struct zip_output *o, void *data, zip_uint64_t n)
{
    const zip_source_args_seek_t *args =
        ZIP_SOURCE_GET_ARGS(zip_source_args_seek_t, data, n, &o->error);
    if (!args)
        return -1;
    return fseeko(o->out, args->offset, args->whence) == 0
               ? 0
               : system_error(o, ZIP_ER_SEEK, errno);
}

/* Answers libzip, which writes; there is no file for it to read. */
static zip_int64_t serve(void *context, void *data, zip_uint64_t n,
                         zip_source_cmd_t command)
{
    struct zip_output *o = context;
    switch (command) {
    case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_WRITABLE;
    case ZIP_SOURCE_STAT:
        return system_error(o, ZIP_ER_READ, ENOENT);
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&o->error, data, n);
    case ZIP_SOURCE_WRITE:
        if (fwrite(data, 1, n, o->out) != n)
            return system_error(o, ZIP_ER_WRITE, errno);
        return (zip_int64_t)n;
    case ZIP_SOURCE_SEEK_WRITE:
        return seek(o, data, n);
    case ZIP_SOURCE_TELL_WRITE:
        return ftello(o->out);
    case ZIP_SOURCE_BEGIN_WRITE:
    case ZIP_SOURCE_COMMIT_WRITE:
    case ZIP_SOURCE_ROLLBACK_WRITE:
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    default:
        return system_error(o, ZIP_ER_OPNOTSUPP, 0);
    }
}

zip_t *zip_output_open(struct zip_output *output, FILE *out, zip_error_t *error)
{
    output->out = out;
    zip_error_init(&output->error);
    zip_error_init(error);
    zip_source_t *source = zip_source_function_create(serve, output, error);
    zip_t *zip =
        source ? zip_open_from_source(source, ZIP_CREATE | ZIP_TRUNCATE, error)
               : NULL;
    if (!zip)
        zip_source_free(source);
    return zip;
}

/* lzma2.c -- packs bytes by liblzma.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/lzma2.h"

#include <lzma.h>

#include "base/signals.h"

enum { PIECE_BYTES = 1 << 18 };

/* n: bytes before they are packed. */
static enum status setup(lzma_options_lzma *options, lzma_filter filters[2],
                         size_t n)
{
    if (lzma_lzma_preset(options, 9 | LZMA_PRESET_EXTREME))
        return fail(E_FORMAT, "this liblzma has no preset 9e");
    options->dict_size =
        n < LZMA_DICT_SIZE_MIN ? LZMA_DICT_SIZE_MIN : (uint32_t)n;
    filters[0] = (lzma_filter){LZMA_FILTER_LZMA2, options};
    filters[1] = (lzma_filter){LZMA_VLI_UNKNOWN, NULL};
    return OK;
}

/* Takes the bytes piece by piece, as a large block takes a minute. */
static enum status encode(lzma_stream *stream, const uint8_t *bytes, size_t n,
                          lzma_ret *ret)
{
    const uint8_t *end = bytes + n;
    stream->next_in = bytes;
    do {
        TRY(signals_check());
        size_t left = (size_t)(end - stream->next_in);
        stream->avail_in = left < PIECE_BYTES ? left : PIECE_BYTES;
        *ret = lzma_code(stream, left > PIECE_BYTES ? LZMA_RUN : LZMA_FINISH);
    } while (*ret == LZMA_OK && stream->avail_out > 0);
    return OK;
}

enum status lzma2_pack(const uint8_t *bytes, size_t n, uint8_t *packed,
                       size_t room, size_t *n_packed)
{
    lzma_options_lzma options;
    lzma_filter filters[2];
    TRY(setup(&options, filters, n));
    lzma_stream stream = LZMA_STREAM_INIT;
    stream.next_out = packed;
    stream.avail_out = room;
    enum status status = OK;
    lzma_ret ret = lzma_raw_encoder(&stream, filters);
    if (ret == LZMA_OK)
        status = encode(&stream, bytes, n, &ret);
    *n_packed = ret == LZMA_STREAM_END ? (size_t)stream.total_out : SIZE_MAX;
    lzma_end(&stream);
    return ret == LZMA_MEM_ERROR ? fail_memory("liblzma") : status;
}

enum status lzma2_unpack(uint8_t *bytes, size_t n, const uint8_t *packed,
                         size_t n_packed, bool *is_whole)
{
    lzma_options_lzma options;
    lzma_filter filters[2];
    size_t n_read = 0, n_made = 0;
    TRY(setup(&options, filters, n));
    lzma_ret ret = lzma_raw_buffer_decode(filters, NULL, packed, &n_read,
                                          n_packed, bytes, &n_made, n);
    if (ret == LZMA_MEM_ERROR)
        return fail_memory("liblzma");
    *is_whole = ret == LZMA_OK && n_read == n_packed && n_made == n;
    return OK;
}

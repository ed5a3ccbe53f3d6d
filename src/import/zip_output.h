/* zip_output.h -- lets libzip write to a stream.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ZIP_OUTPUT_H
#define MAMBYTE_ZIP_OUTPUT_H

#include <stdio.h>
#include <zip.h>

struct zip_output {
    FILE *out;
    zip_error_t error;
};

/* A new archive, whose bytes go to out when zip_close() is called.  output
 * has to stay until then.  NULL and *error, to be freed, on failure. */
zip_t *zip_output_open(struct zip_output *output, FILE *out,
                       zip_error_t *error);

#endif

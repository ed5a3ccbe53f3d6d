/* names.h -- names that an option may be given several of.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NAMES_H
#define MAMBYTE_NAMES_H

struct name_list {
    const char *items[32]; /* [n], not owned */
    int n;
};

#endif

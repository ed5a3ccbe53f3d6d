/* file_place.h -- where a path leads: to a file, or to a place for one.
 *
 * Places are compared as files, by device and inode, whatever their names are.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_PLACE_H
#define MAMBYTE_FILE_PLACE_H

#include <stdbool.h>
#include <sys/stat.h>

struct file_place {
    bool is_there; /* else device and inode are those of its folder */
    mode_t mode;   /* of the file, or of the folder; 0: nothing is known */
    dev_t device;
    ino_t inode;
    const char *name; /* in the folder: the end of path, which must stay */
};

/* "-" is standard input. */
struct file_place file_place_of(const char *path);

/* Of an open file. */
struct file_place file_place_of_fd(int fd);

/* Whether both are one regular file, or would be: devices and pipes may be
 * written to by several. */
bool file_place_is_same(const struct file_place *a, const struct file_place *b);

/* Whether a file lies in a folder. */
bool file_place_is_in(const char *path, const struct file_place *folder);

enum { FILE_PLACES_MAX = 8 };

struct file_places {
    struct file_place items[FILE_PLACES_MAX]; /* [n] */
    int n;
};

/* path NULL adds nothing. */
void file_places_add(struct file_places *places, const char *path);
bool file_places_have(const struct file_places *places,
                      const struct file_place *place);

#endif

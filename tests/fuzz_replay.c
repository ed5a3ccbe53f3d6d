/* fuzz_replay.c -- a main for fuzz targets where there is no fuzzer.
 *
 * Gives every file named, and every file of a directory named, to the target
 * once; without arguments the corpus of this program,
 * $srcdir/tests/fuzz_corpus/<its name>, which must not be empty.  With it a
 * fuzz target is an ordinary test: what it once choked on stays tested.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Exits with what went wrong: a test that did not run has failed. */
static void die(const char *path)
{
    perror(path);
    exit(EXIT_FAILURE);
}

static void replay_file(const char *path, size_t n)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        die(path);
    /* As long as the input and no longer, so that ASan sees a read past its
     * end; one byte for an empty one. */
    uint8_t *bytes = malloc(n ? n : 1);
    if (!bytes || fread(bytes, 1, n, file) != n)
        die(path);
    LLVMFuzzerTestOneInput(bytes, n);
    free(bytes);
    fclose(file);
}

/* Returns how many files were replayed. */
static int replay(const char *path)
{
    struct stat stat_of_path;
    if (stat(path, &stat_of_path) != 0)
        die(path);
    if (!S_ISDIR(stat_of_path.st_mode)) {
        replay_file(path, (size_t)stat_of_path.st_size);
        return 1;
    }
    DIR *directory = opendir(path);
    if (!directory)
        die(path);
    int n_files = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        n_files += replay(name);
    }
    closedir(directory);
    return n_files;
}

int main(int argc, char **argv)
{
    int n_files = 0;
    for (int i = 1; i < argc; i++)
        n_files += replay(argv[i]);
    if (argc == 1) {
        const char *slash = strrchr(argv[0], '/');
        const char *top = getenv("srcdir");
        char corpus[4096];
        snprintf(corpus, sizeof corpus, "%s/tests/fuzz_corpus/%s",
                 top ? top : ".", slash ? slash + 1 : argv[0]);
        n_files = replay(corpus);
    }
    printf("%d inputs replayed\n", n_files);
    return n_files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

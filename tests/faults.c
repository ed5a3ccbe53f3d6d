/* faults.c -- a library to be preloaded, in which the n-th call fails.
 *
 * FAULT=KIND:N makes the N-th call of a kind fail, FAULT=KIND:N+ all from that
 * one on, and at FAULT=KIND:N! the program is killed in its place:
 *
 *     alloc   malloc and its relatives            ENOMEM
 *     write   write, and writing to a stream      ENOSPC
 *     read    read                                EIO
 *     sync    fsync                               EIO
 *     close   close and fclose, which close       EIO
 *     name    linkat, renameat and unlink         EIO
 *
 * Calls are counted from the start of main on: what libraries do before it (the
 * CUDA runtime registers its kernels, and crashes without memory) is not ours.
 * At the end of the program the number of calls of each kind is written to the
 * file that FAULT_COUNTS names.
 *
 * Calls within the C library do not come by here; malloc does.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { ALLOC, WRITE, READ, SYNC, CLOSE, NAME, N_KINDS };

static const struct {
    const char *name;
    int error;
} kinds[N_KINDS] = {
    [ALLOC] = {"alloc", ENOMEM}, [WRITE] = {"write", ENOSPC},
    [READ] = {"read", EIO},      [SYNC] = {"sync", EIO},
    [CLOSE] = {"close", EIO},    [NAME] = {"name", EIO},
};

static atomic_long counts[N_KINDS];
static enum kind failing = N_KINDS;
static long first;
static bool is_lasting, kills;

static void read_fault(void)
{
    const char *fault = getenv("FAULT");
    for (int k = 0; fault && k < N_KINDS; k++) {
        size_t n = strlen(kinds[k].name);
        if (strncmp(fault, kinds[k].name, n) == 0 && fault[n] == ':') {
            char *end;
            first = strtol(fault + n + 1, &end, 10);
            is_lasting = *end == '+';
            kills = *end == '!';
            failing = (enum kind)k;
        }
    }
    for (int k = 0; k < N_KINDS; k++)
        counts[k] = 0;
}

/* ---- the start and the end of the program ------------------------------- */

typedef int main_function(int, char **, char **);
typedef int start_function(main_function *, int, char **, void (*)(void),
                           void (*)(void), void (*)(void), void *);

start_function __libc_start_main;
static main_function *program;

static int counted_main(int argc, char **argv, char **environment)
{
    read_fault();
    return program(argc, argv, environment);
}

int __libc_start_main(main_function *main, int argc, char **argv,
                      void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    start_function *start;
    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    program = main;
    return start(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}

__attribute__((destructor)) static void write_counts(void)
{
    const char *path = getenv("FAULT_COUNTS");
    char line[64];
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    for (int k = 0; fd >= 0 && k < N_KINDS; k++) {
        int n = snprintf(line, sizeof line, "%s %ld\n", kinds[k].name,
                         (long)counts[k]);
        syscall(SYS_write, fd, line, (size_t)n);
    }
}

/* Counts a call; whether it fails. */
static bool fails(enum kind kind)
{
    long n = atomic_fetch_add(&counts[kind], 1) + 1;
    if (kind != failing || n < first || (n > first && !is_lasting))
        return false;
    if (kills)
        raise(SIGKILL);
    errno = kinds[kind].error;
    return true;
}

/* ---- memory ------------------------------------------------------------- */

#ifdef __GLIBC__
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

void *malloc(size_t n)
{
    return fails(ALLOC) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fails(ALLOC) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return fails(ALLOC) ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return fails(ALLOC) ? NULL : __libc_memalign(alignment, n);
}

int posix_memalign(void **p, size_t alignment, size_t n)
{
    if (fails(ALLOC))
        return ENOMEM;
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : ENOMEM;
}
#endif

/* ---- descriptors -------------------------------------------------------- */

ssize_t write(int fd, const void *bytes, size_t n)
{
    return fails(WRITE) ? -1 : syscall(SYS_write, fd, bytes, n);
}

ssize_t read(int fd, void *bytes, size_t n)
{
    return fails(READ) ? -1 : syscall(SYS_read, fd, bytes, n);
}

int fsync(int fd)
{
    return fails(SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int close(int fd)
{
    int result = (int)syscall(SYS_close, fd);
    return fails(CLOSE) ? -1 : result;
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return fails(NAME) ? -1
                       : (int)syscall(SYS_linkat, from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new)
{
    return fails(NAME) ? -1
                       : (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

int unlink(const char *path)
{
    return fails(NAME) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* ---- streams ------------------------------------------------------------ */

/* What a stream says after a write that failed. */
static void mark(FILE *stream)
{
#ifdef __GLIBC__
    stream->_flags |= _IO_ERR_SEEN;
#endif
}

/* The function of the C library. */
#define NEXT(function)                                                         \
    static __typeof__(function) *next;                                         \
    if (!next)                                                                 \
    *(void **)&next = dlsym(RTLD_NEXT, #function)

size_t fwrite(const void *bytes, size_t size, size_t n, FILE *stream)
{
    NEXT(fwrite);
    if (!fails(WRITE))
        return next(bytes, size, n, stream);
    mark(stream);
    return 0;
}

int fputs(const char *text, FILE *stream)
{
    NEXT(fputs);
    if (!fails(WRITE))
        return next(text, stream);
    mark(stream);
    return EOF;
}

int fputc(int c, FILE *stream)
{
    NEXT(fputc);
    if (!fails(WRITE))
        return next(c, stream);
    mark(stream);
    return EOF;
}

int fflush(FILE *stream)
{
    NEXT(fflush);
    if (!fails(WRITE))
        return next(stream);
    mark(stream);
    return EOF;
}

int fclose(FILE *stream)
{
    NEXT(fclose);
    int result = next(stream);
    return fails(CLOSE) ? EOF : result;
}

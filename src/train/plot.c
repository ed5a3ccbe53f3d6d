/* plot.c -- draws the log of a run, by gnuplot.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic_file.h"

/* Of the log, before those of the sources. */
enum { N_COLUMNS = 6 };

/* The terminal of gnuplot for a name, or NULL. */
static const char *terminal_for(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".svg") == 0)
        return "svg noenhanced size 900,600";
    if (dot && strcmp(dot, ".png") == 0)
        return "png noenhanced size 900,600";
    return NULL;
}

enum status plot_check(const char *path)
{
    if (!terminal_for(path) || strchr(path, '\n'))
        return fail(E_USAGE, "--plot: '%s' does not end in .svg or .png", path);
    signal(SIGCHLD, SIG_DFL); /* ignored, it leaves no child to wait for */
    int how = system("command -v gnuplot >/dev/null 2>&1");
    if (how < 0)
        return fail(E_IO, "--plot: %s", strerror(errno));
    if (how != 0)
        return fail(E_IO, "--plot: gnuplot is not installed");
    return OK;
}

/* A string after a prefix, quoted for gnuplot. */
static void print_quoted(FILE *out, const char *prefix, const char *text)
{
    fprintf(out, "'%s", prefix);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', out);
        fputc(*text == '\n' ? ' ' : *text, out);
    }
    fputc('\'', out);
}

static void print_script(FILE *out, const char *path, const char *log_path,
                         const struct dataset *valid)
{
    fprintf(out, "set terminal %s\n", terminal_for(path));
    fputs("set datafile separator \"\\t\"\nset grid\n"
          "set xlabel 'bytes'\nset ylabel 'bits per byte'\nplot ",
          out);
    /* '<NAME' would be a command that gnuplot starts, '-' no file. */
    print_quoted(out, *log_path == '/' ? "" : "./", log_path);
    fputs(" every ::1 using 2:3 with dots title 'training'", out);
    for (int i = 0; i < valid->n; i++) {
        fprintf(out, ", '' every ::1 using 2:%d with linespoints title ",
                N_COLUMNS + 1 + i);
        print_quoted(out, "", valid->sources[i].name);
    }
    fputc('\n', out);
}

/* A file without a name, from whose start the script is read; or NULL.  A pipe
 * would kill us when gnuplot ends early. */
static FILE *write_script(const char *path, const char *log_path,
                          const struct dataset *valid)
{
    int fd = memfd_create("script", MFD_CLOEXEC);
    FILE *script = fd < 0 ? NULL : fdopen(fd, "w");
    if (!script) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    print_script(script, path, log_path, valid);
    if (fflush(script) == 0 && lseek(fd, 0, SEEK_SET) == 0)
        return script;
    fclose(script);
    return NULL;
}

/* Starts gnuplot, which draws to fd what it reads from script.  Returns an
 * errno. */
static int start_gnuplot(pid_t *child, int script, int fd)
{
    static char name[] = "gnuplot";
    char *argv[] = {name, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                     O_WRONLY, 0);
    int error = posix_spawnp(child, name, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Whether it ended well. */
static bool wait_for(pid_t child)
{
    int how = 0;
    while (waitpid(child, &how, 0) < 0) {
        if (errno != EINTR)
            return false;
    }
    return WIFEXITED(how) && WEXITSTATUS(how) == 0;
}

static enum status draw(int fd, const char *path, const char *log_path,
                        const struct dataset *valid)
{
    pid_t child;
    FILE *script = write_script(path, log_path, valid);
    if (!script)
        return fail(E_IO, "the script for gnuplot: %s", strerror(errno));
    int error = start_gnuplot(&child, fileno(script), fd);
    fclose(script);
    if (error != 0)
        return fail(E_IO, "gnuplot: %s", strerror(error));
    return wait_for(child) ? OK : fail(E_IO, "gnuplot could not draw %s", path);
}

enum status plot_draw(const char *path, const char *log_path,
                      const struct dataset *valid)
{
    struct atomic_file file;
    TRY(atomic_file_open(&file, path, ATOMIC_FOLLOW));
    enum status status = draw(file.fd, path, log_path, valid);
    if (status == OK)
        return atomic_file_commit(&file);
    atomic_file_abandon(&file);
    return status;
}

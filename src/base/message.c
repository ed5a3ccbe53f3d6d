/* message.c -- what we say on stderr: errors, notes, progress.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/message.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/escape.h"
#include "base/utf8.h"

#define PROGRESS_DELAY    1.0  /* seconds before the line first appears */
#define PROGRESS_INTERVAL 0.2  /* and between two of them on a terminal */
#define STATUS_INTERVAL   10.0 /* and of a status elsewhere */
#define CLEAR_LINE        "\r\033[K"

/* Bytes of a line, and of the same line when it is shown. */
enum {
    LINE_MAX_BYTES = 2048,
    SHOWN_MAX_BYTES = 2 * LINE_MAX_BYTES,
    PROGRAM_CHARS = 64,
    NAME_BYTES = 40 /* of a name in a line of progress */
};

static char program[PROGRAM_CHARS] = "mambyte"; /* escaped */
static enum verbosity verbosity = NORMAL;

static struct {
    bool is_wanted, is_terminal, is_shown;
    double started, printed; /* 0 before the first call of a piece of work */
    uint64_t first;          /* bytes done at that call */
} progress;

void message_init(const char *name)
{
    const char *slash = name ? strrchr(name, '/') : NULL;
    if (slash)
        name = slash + 1;
    if (name && *name)
        escape_into(program, sizeof program, name);
    progress.is_terminal = isatty(STDERR_FILENO);
    progress.is_wanted = progress.is_terminal;
}

void message_set(enum verbosity level, bool wants_progress)
{
    verbosity = level;
    progress.is_wanted =
        level != SILENT && (progress.is_terminal || wants_progress);
}

const char *message_program(void)
{
    return program;
}

static void print_line(const char *format, va_list args)
{
    char line[LINE_MAX_BYTES], shown[SHOWN_MAX_BYTES];
    vsnprintf(line, sizeof line, format, args);
    message_progress_end();
    fprintf(stderr, "%s: %s\n", program,
            escape_into(shown, sizeof shown, line));
}

void message_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void message_warning(const char *format, ...)
{
    va_list args;
    char text[1024];
    if (verbosity == SILENT)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    message_error("warning: %s", text);
}

void message_note(const char *format, ...)
{
    va_list args;
    if (verbosity < VERBOSE)
        return;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void message_try_help(void)
{
    fprintf(stderr, "Try '%s --help' for more information.\n", program);
}

void message_last_words(const char *path, const char *text)
{
    const char *parts[] = {program, ": ", path, text, "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ssize_t ignored = write(STDERR_FILENO, parts[i], strlen(parts[i]));
        (void)ignored;
    }
}

const char *message_size(char text[16], double n_bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;
    while (n_bytes >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        n_bytes /= 1000;
        unit++;
    }
    int digits = unit > 0 && n_bytes < 99.95;
    snprintf(text, 16, "%.*f %s", digits, n_bytes, units[unit]);
    return text;
}

/* ", 1:23 left", or nothing when the end is not known. */
static void describe_left(char text[32], double left, double speed)
{
    double seconds = speed > 0 ? left / speed : 0;
    text[0] = '\0';
    if (seconds >= 1 && seconds < 360000)
        snprintf(text, 32, ", %d:%02d left", (int)seconds / 60,
                 (int)seconds % 60);
}

/* A long name loses its end, by whole characters. */
static void shorten(char start[NAME_BYTES + 1], const char *name)
{
    size_t n = strlen(name);
    if (n > NAME_BYTES)
        n = NAME_BYTES -
            utf8_incomplete_tail((const uint8_t *)name, NAME_BYTES);
    memcpy(start, name, n);
    start[n] = '\0';
}

static void show_progress(const char *name, uint64_t done, uint64_t size)
{
    char so_far[16], per_second[16], left[32] = "", percent[16] = "";
    double elapsed = clock_now() - progress.started;
    double speed = (double)(done - progress.first) / elapsed;
    if (size > 0 && done <= size) {
        snprintf(percent, sizeof percent, " (%.0f %%)",
                 100.0 * (double)done / (double)size);
        describe_left(left, (double)(size - done), speed);
    }
    char start[NAME_BYTES + 1], shown[4 * NAME_BYTES + 1];
    shorten(start, name);
    fprintf(stderr, "%s%s: %s%s, %s/s%s%s",
            progress.is_terminal ? CLEAR_LINE : "",
            escape_into(shown, sizeof shown, start),
            message_size(so_far, (double)done), percent,
            message_size(per_second, speed), left,
            progress.is_terminal ? "" : "\n");
    fflush(stderr);
    progress.is_shown = true;
}

void message_progress(const char *name, uint64_t done, uint64_t size)
{
    if (!progress.is_wanted)
        return;
    double now = clock_now();
    if (progress.started == 0) {
        progress.started = now;
        progress.printed = now + PROGRESS_DELAY - PROGRESS_INTERVAL;
        progress.first = done;
    } else if (now >= progress.printed + PROGRESS_INTERVAL) {
        show_progress(name, done, size);
        progress.printed = now + (progress.is_terminal ? 0 : PROGRESS_DELAY);
    }
}

void message_status(const char *format, ...)
{
    double interval =
        progress.is_terminal ? PROGRESS_INTERVAL : STATUS_INTERVAL;
    if (!progress.is_wanted || clock_now() < progress.printed + interval)
        return;
    char line[LINE_MAX_BYTES], shown[SHOWN_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "%s%s%s", progress.is_terminal ? CLEAR_LINE : "",
            escape_into(shown, sizeof shown, line),
            progress.is_terminal ? "" : "\n");
    fflush(stderr);
    progress.is_shown = true;
    progress.printed = clock_now();
}

void message_progress_end(void)
{
    if (progress.is_shown && progress.is_terminal) {
        fputs(CLEAR_LINE, stderr);
        fflush(stderr);
    }
    progress.is_shown = false;
    progress.started = 0;
}

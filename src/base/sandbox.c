/* sandbox.c -- drops the privileges that the rest of the work does not need.
 *
 * Landlock and seccomp are called by number: glibc has no functions for them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/message.h"
#include "config.h"

/* ---- Landlock ----------------------------------------------------------- */

#if WANT_SANDBOX && __has_include(<linux/landlock.h>)
#include <linux/landlock.h>

/* The rights of the first version, and what later ones added.  Headers may be
 * older than the kernel. */
#define RIGHT(bit) (UINT64_C(1) << (bit))
#define EXECUTE    RIGHT(0)
#define WRITE_FILE RIGHT(1)
#define READ_FILE  RIGHT(2)
#define READ_DIR   RIGHT(3)
#define REMOVE_DIR RIGHT(4)
#define REMOVE     RIGHT(5)
#define MAKE_DIR   RIGHT(7)
#define MAKE_REG   RIGHT(8)
#define VERSION_1  (RIGHT(13) - 1)
#define REFER      RIGHT(13) /* version 2 */
#define TRUNCATE   RIGHT(14) /* version 3 */

static uint64_t rights_of(long version)
{
    return VERSION_1 | (version >= 2 ? REFER : 0) |
           (version >= 3 ? TRUNCATE : 0);
}

/* After a failure that need not come again when a file is opened later. */
static void note_shortage(struct sandbox *sandbox)
{
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
        sandbox->error = errno;
}

void sandbox_open(struct sandbox *sandbox, enum sandbox_kind kind)
{
    *sandbox = (struct sandbox){.ruleset = -1};
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
                           LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return;
    sandbox->rights = rights_of(version);
    if (kind == SANDBOX_WRITES)
        sandbox->rights &= ~(READ_FILE | READ_DIR);
    struct landlock_ruleset_attr attribute = {.handled_access_fs =
                                                  sandbox->rights};
    sandbox->ruleset = (int)syscall(SYS_landlock_create_ruleset, &attribute,
                                    sizeof attribute.handled_access_fs, 0);
    if (sandbox->ruleset < 0)
        note_shortage(sandbox);
}

static void allow(struct sandbox *sandbox, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = {
        .allowed_access = rights & sandbox->rights,
        .parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0) {
        note_shortage(sandbox);
        return;
    }
    if (rule.allowed_access != 0 &&
        syscall(SYS_landlock_add_rule, sandbox->ruleset,
                LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
        note_shortage(sandbox);
    close(rule.parent_fd);
}

/* path is changed. */
static void allow_folder_of(struct sandbox *sandbox, char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        slash[slash == path] = '\0';
    allow(sandbox, slash ? path : ".",
          READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | REMOVE | REMOVE_DIR |
              MAKE_DIR | MAKE_REG | REFER);
}

void sandbox_allow_reading(struct sandbox *sandbox, const char *path)
{
    if (sandbox->ruleset >= 0)
        allow(sandbox, path, READ_FILE);
}

/* A link is followed or replaced: its folder, and that of where it leads. */
void sandbox_allow_writing(struct sandbox *sandbox, const char *path)
{
    if (sandbox->ruleset < 0)
        return;
    char *names[] = {strdup(path), realpath(path, NULL)};
    allow(sandbox, path, READ_FILE | WRITE_FILE | TRUNCATE);
    for (int i = 0; i < 2; i++) {
        if (names[i])
            allow_folder_of(sandbox, names[i]);
        else
            note_shortage(sandbox);
        free(names[i]);
    }
}

static bool restrict_files(struct sandbox *sandbox)
{
    if (sandbox->ruleset < 0)
        return false;
    long status = syscall(SYS_landlock_restrict_self, sandbox->ruleset, 0);
    close(sandbox->ruleset);
    sandbox->ruleset = -1;
    return status == 0;
}

#else

void sandbox_open(struct sandbox *sandbox, enum sandbox_kind kind)
{
    (void)kind;
    *sandbox = (struct sandbox){.ruleset = -1};
}

void sandbox_allow_reading(struct sandbox *sandbox, const char *path)
{
    (void)sandbox;
    (void)path;
}

void sandbox_allow_writing(struct sandbox *sandbox, const char *path)
{
    (void)sandbox;
    (void)path;
}

static bool restrict_files(struct sandbox *sandbox)
{
    (void)sandbox;
    return false;
}

#endif

/* ---- seccomp ------------------------------------------------------------ */

#if WANT_SANDBOX && defined SECCOMP_ARCHITECTURE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define OTHER_ABI 0x40000000 /* x32 */

/* To run a program, to talk to another, to look into one, to change what the
 * kernel is or does. */
static const unsigned barred[] = {
    SYS_execve,
    SYS_execveat,
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    SYS_init_module,
    SYS_finit_module,
    SYS_kexec_load,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
};

enum { N_BARRED = sizeof barred / sizeof barred[0], N_BEFORE = 5, N_AFTER = 2 };

#define LOAD(member)                                                           \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, (action))

/* Calls that are barred, and those of another ABI, fail with EPERM. */
static bool restrict_calls(void)
{
    struct sock_filter code[N_BEFORE + N_BARRED + N_AFTER] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_ARCHITECTURE, 1, 0),
        ANSWER(SECCOMP_RET_ERRNO | EPERM),
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, OTHER_ABI, N_BARRED + 1, 0),
    };
    for (unsigned i = 0; i < N_BARRED; i++)
        code[N_BEFORE + i] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, barred[i], N_BARRED - i, 0);
    code[N_BEFORE + N_BARRED] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    code[N_BEFORE + N_BARRED + 1] =
        (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | EPERM);
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                   SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

#else

static bool restrict_calls(void)
{
    return false;
}

#endif

enum status sandbox_enter(struct sandbox *sandbox)
{
    if (sandbox->error != 0)
        return fail(E_IO, "cannot make a sandbox: %s",
                    strerror(sandbox->error));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    bool has_files = restrict_files(sandbox), has_calls = restrict_calls();
    message_note("sandbox %s", has_files && has_calls ? "files and calls"
                               : has_files            ? "files"
                               : has_calls            ? "calls"
                                                      : "none");
    return OK;
}

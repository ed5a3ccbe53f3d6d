/* nccl.cu -- sums over the GPUs of one host.
 *
 * CUDA's toolkit does not have NCCL's header, so the few declarations that are
 * needed stand here.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/nccl.cuh"

#include <dlfcn.h>

struct ncclComm; /* NCCL's own name */

enum { NCCL_SUCCESS = 0, NCCL_SUM = 0, NCCL_FLOAT = 7 };

typedef int comm_init_all(struct ncclComm **comms, int n, const int *devices);
typedef int comm_destroy(struct ncclComm *comm);
typedef int all_reduce(const void *from, void *to, size_t n, int type,
                       int operation, struct ncclComm *comm,
                       cudaStream_t stream);
typedef const char *get_error_string(int result);

struct nccl {
    void *library;
    comm_init_all *init;
    comm_destroy *destroy;
    all_reduce *reduce;
    get_error_string *describe;
    struct ncclComm **comms; /* [n], owned */
    int n;
};

static bool load(void **function, void *library, const char *name)
{
    *function = dlsym(library, name);
    return *function != NULL;
}

static enum status load_library(struct nccl *nccl)
{
    nccl->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!nccl->library)
        return fail(E_DEVICE,
                    "training on several GPUs needs NCCL, which cannot be "
                    "loaded: %s (LD_LIBRARY_PATH may name its folder)",
                    dlerror());
    if (!load((void **)&nccl->init, nccl->library, "ncclCommInitAll") ||
        !load((void **)&nccl->destroy, nccl->library, "ncclCommDestroy") ||
        !load((void **)&nccl->reduce, nccl->library, "ncclAllReduce") ||
        !load((void **)&nccl->describe, nccl->library, "ncclGetErrorString"))
        return fail(E_DEVICE, "this NCCL is too old: %s", dlerror());
    return OK;
}

static enum status nccl_status(const struct nccl *nccl, int result)
{
    if (result == NCCL_SUCCESS)
        return OK;
    return fail(E_DEVICE, "NCCL failed: %s", nccl->describe(result));
}

static enum status set_up(struct nccl *nccl, const int *devices, int n)
{
    TRY(load_library(nccl));
    nccl->comms = (struct ncclComm **)calloc(n, sizeof *nccl->comms);
    if (!nccl->comms)
        return fail_memory("NCCL");
    TRY(nccl_status(nccl, nccl->init(nccl->comms, n, devices)));
    nccl->n = n;
    return OK;
}

enum status nccl_open(struct nccl **nccl, const int *devices, int n)
{
    *nccl = NULL;
    struct nccl *new_nccl = (struct nccl *)calloc(1, sizeof *new_nccl);
    if (!new_nccl)
        return fail_memory("NCCL");
    enum status status = set_up(new_nccl, devices, n);
    if (status != OK) {
        nccl_close(new_nccl);
        return status;
    }
    *nccl = new_nccl;
    return OK;
}

void nccl_close(struct nccl *nccl)
{
    if (!nccl)
        return;
    for (int i = 0; i < nccl->n; i++)
        nccl->destroy(nccl->comms[i]);
    free(nccl->comms);
    free(nccl);
}

enum status nccl_sum(struct nccl *nccl, int i, float *x, size_t n,
                     cudaStream_t stream)
{
    return nccl_status(nccl, nccl->reduce(x, x, n, NCCL_FLOAT, NCCL_SUM,
                                          nccl->comms[i], stream));
}

/* runtime.cpp -- memory, streams and events of the runtime that is imitated.
 *
 * What is put into a stream runs later: when the host waits for it, asks for
 * it, or frees memory.  Of several streams, which goes on is drawn from the
 * seed (fibers.h).  So a missing event, or memory that the host uses again too
 * early, shows with some seed.  A kernel runs to its end before anything else
 * starts: races between kernels that overlap do not show.
 *
 * The device has four multiprocessors, the shared memory of an H100 and
 * capability 9.0; its code may be for an earlier one, as __CUDA_ARCH__ says.
 *
 * SPDX-License-Identifier: MIT
 */
#include <deque>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "tests/emulated/cuda_runtime.h"

enum { MULTIPROCESSORS = 4, STATIC_SHARED = 4096 };

typedef std::function<void()> work;

/* What a stream has to do: work, or to wait for an event's record. */
struct task {
    work act;
    cudaEvent_t event;
    unsigned record;
};

struct emulated_stream {
    std::deque<task> tasks;
    struct emulated_graph *recorded_to;
};

struct emulated_event {
    unsigned n_recorded, n_done;
};

struct emulated_graph {
    std::vector<work> works;
};

static std::vector<cudaStream_t> streams;

struct pinned {
    char *first, *end;
};
static std::vector<pinned> pinned_memory;

/* ---- streams ------------------------------------------------------------- */

static bool can_go_on(cudaStream_t s)
{
    if (s->tasks.empty())
        return false;
    const task &t = s->tasks.front();
    return t.event == nullptr || t.event->n_done >= t.record;
}

/* False where no stream has anything to do. */
static bool run_a_task()
{
    std::vector<cudaStream_t> able;
    for (cudaStream_t s : streams) {
        if (can_go_on(s))
            able.push_back(s);
    }
    if (able.empty())
        return false;
    cudaStream_t s = able[emulated::draw((uint32_t)able.size())];
    task t = std::move(s->tasks.front());
    s->tasks.pop_front();
    if (t.act)
        t.act();
    return true;
}

static void submit(cudaStream_t stream, const work &act)
{
    if (stream == nullptr)
        act();
    else if (stream->recorded_to)
        stream->recorded_to->works.push_back(act);
    else
        stream->tasks.push_back({act, nullptr, 0});
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new emulated_stream();
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    while (stream && !stream->tasks.empty()) {
        if (!run_a_task())
            emulated::complain("streams wait for each other");
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
    while (run_a_task())
        ;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaStreamSynchronize(stream);
    for (size_t i = 0; i < streams.size(); i++) {
        if (streams[i] == stream) {
            streams.erase(streams.begin() + (ptrdiff_t)i);
            break;
        }
    }
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                unsigned)
{
    if (stream->recorded_to)
        emulated::complain("a wait in a recording");
    stream->tasks.push_back({nullptr, event, event->n_recorded});
    return cudaSuccess;
}

/* ---- events -------------------------------------------------------------- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new emulated_event();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

/* Nothing here has a speed. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = 1;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    unsigned record = ++event->n_recorded;
    submit(stream, [=] { event->n_done = record; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->n_done < event->n_recorded)
        run_a_task();
    return event->n_done < event->n_recorded ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    while (event->n_done < event->n_recorded) {
        if (!run_a_task())
            emulated::complain("an event that never comes");
    }
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaDeviceSynchronize();
    delete event;
    return cudaSuccess;
}

/* ---- recordings ---------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    stream->recorded_to = new emulated_graph();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->recorded_to;
    stream->recorded_to = nullptr;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *launch, cudaGraph_t graph,
                                 unsigned long long)
{
    *launch = new emulated_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t launch)
{
    cudaDeviceSynchronize();
    delete launch;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t launch, cudaStream_t stream)
{
    for (const work &act : launch->works)
        submit(stream, act);
    return cudaSuccess;
}

/* ---- launches ------------------------------------------------------------ */

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *launch, const void *,
                                void **args)
{
    const cudaLaunchConfig_t &config = *launch;
    const work kernel = *(const work *)args[0];
    emulated::shape s = {{config.gridDim.x, config.gridDim.y, config.gridDim.z},
                         (int)config.blockDim.x,
                         1,
                         false,
                         config.dynamicSmemBytes};
    for (unsigned i = 0; i < config.numAttrs; i++) {
        const cudaLaunchAttribute &a = config.attrs[i];
        if (a.id == cudaLaunchAttributeClusterDimension)
            s.cluster = (int)a.val.clusterDim.x;
        else if (a.id == cudaLaunchAttributeCooperative)
            s.is_cooperative = true;
    }
    unsigned n_blocks = s.grid[0] * s.grid[1] * s.grid[2];
    if (n_blocks == 0 || s.grid[1] > 65535 || s.grid[2] > 65535 ||
        config.blockDim.y * config.blockDim.z != 1 || s.n_threads > 1024 ||
        s.shared_bytes > emulated::SHARED_BYTES ||
        n_blocks % (unsigned)s.cluster != 0 ||
        (s.is_cooperative && n_blocks > MULTIPROCESSORS))
        return cudaErrorInvalidValue;
    submit(config.stream, [=] { emulated::run_grid(s, kernel); });
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute what, int n)
{
    bool is_shared = what == cudaFuncAttributeMaxDynamicSharedMemorySize;
    return is_shared && n > emulated::SHARED_BYTES ? cudaErrorInvalidValue
                                                   : cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *)
{
    *attributes = {STATIC_SHARED, 64, 1024, __CUDA_ARCH__ / 10};
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveClusters(int *n, const void *,
                                           const cudaLaunchConfig_t *config)
{
    int cluster = 1;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
            cluster = (int)config->attrs[i].val.clusterDim.x;
    }
    *n = MULTIPROCESSORS / cluster;
    return cudaSuccess;
}

/* ---- memory -------------------------------------------------------------- */

/* It starts with numbers that mean nothing. */
cudaError_t cudaMalloc(void **p, size_t n)
{
    *p = aligned_alloc(1024, (n + 2047) / 1024 * 1024);
    if (*p == nullptr)
        return cudaErrorMemoryAllocation;
    memset(*p, 0x7b, n);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    cudaDeviceSynchronize();
    free(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    cudaError_t error = cudaMalloc(p, n);
    if (error == cudaSuccess)
        pinned_memory.push_back({(char *)*p, (char *)*p + n});
    return error;
}

cudaError_t cudaHostRegister(void *p, size_t n, unsigned)
{
    pinned_memory.push_back({(char *)p, (char *)p + n});
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    cudaDeviceSynchronize();
    for (size_t i = 0; i < pinned_memory.size(); i++) {
        if (pinned_memory[i].first == p) {
            pinned_memory.erase(pinned_memory.begin() + (ptrdiff_t)i);
            break;
        }
    }
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **of_kernels, void *p, unsigned)
{
    *of_kernels = p;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    cudaHostUnregister(p);
    free(p);
    return cudaSuccess;
}

static bool is_pinned(const void *p)
{
    for (const pinned &m : pinned_memory) {
        if (p >= m.first && p < m.end)
            return true;
    }
    return false;
}

/* A copy from memory of the host that is not pinned takes its bytes at once,
 * one to such memory waits for the stream. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n,
                            cudaMemcpyKind kind, cudaStream_t stream)
{
    if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
        std::vector<char> kept((const char *)from, (const char *)from + n);
        submit(stream, [=] { memcpy(to, kept.data(), n); });
        return cudaSuccess;
    }
    submit(stream, [=] { memmove(to, from, n); });
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(to))
        cudaStreamSynchronize(stream);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind)
{
    memmove(to, from, n);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from,
                         size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind)
{
    for (size_t i = 0; i < height; i++)
        memcpy((char *)to + i * to_pitch, (const char *)from + i * from_pitch,
               width);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from,
                              size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream)
{
    for (size_t i = 0; i < height; i++)
        cudaMemcpyAsync((char *)to + i * to_pitch,
                        (const char *)from + i * from_pitch, width, kind,
                        stream);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int x, size_t n)
{
    memset(p, x, n);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int x, size_t n, cudaStream_t stream)
{
    submit(stream, [=] { memset(p, x, n); });
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *is_free, size_t *total)
{
    *is_free = *total = (size_t)1 << 30;
    return cudaSuccess;
}

/* ---- the device ---------------------------------------------------------- */

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t)
{
    return "an error of the imitated device";
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaInitDevice(int, unsigned, unsigned)
{
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int)
{
    switch (what) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        break;
    case cudaDevAttrCooperativeLaunch:
        *value = 1;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = emulated::SHARED_BYTES;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = MULTIPROCESSORS;
        break;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    *p = {"imitated",
          9,
          0,
          MULTIPROCESSORS,
          32,
          50 << 20,
          emulated::SHARED_BYTES,
          (size_t)1 << 30};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* mamba2_output.cu -- what the bytes of a chunk read: each other, by weights
 * m, and the state at the chunk's start.
 *
 * A block has a chunk and some heads of a group: their g is the same, and is
 * made once.  While it works on a head, the next one's numbers are copied.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_weights.cuh"

enum { HEADS_MAX = 4 }; /* of a block */

/* What a block has in shared memory: B^ and C^, [state_tiles] tiles each; room
 * for results; and for two heads in turn what a head has. */
template <typename T> struct output_room {
    T *b, *c, *out;
    char *heads;
    size_t head_bytes;
};

/* x^ [head_tiles] and S^ [head_tiles][state_tiles], tiles; by place, cum and
 * w; the scale of each row of S^. */
template <typename T> struct head_room {
    T *x, *states;
    float *cum, *w, *state_scale;
};

template <typename T>
static __host__ __device__ __forceinline__ size_t
head_bytes(const struct chunk_job &j)
{
    int n = state_tiles(&j), p = head_tiles(&j);
    return (size_t)p * (1 + n) * tile_size<T>() * sizeof(T) +
           (2 + p) * SIDE * sizeof(float);
}

template <typename T>
static size_t output_bytes(const struct chunk_job &j, int n_turns)
{
    return (size_t)(2 * state_tiles(&j) + 1) * tile_size<T>() * sizeof(T) +
           n_turns * head_bytes<T>(j);
}

template <typename T>
static __device__ __forceinline__ struct output_room<T>
deal_output(const struct chunk_job &j, char *shared) {
    const int n = state_tiles(&j), tile = tile_size<T>();
    struct output_room<T> room;
    room.b = (T *)shared;
    room.c = room.b + n * tile;
    room.out = room.c + n * tile;
    room.heads = (char *)(room.out + tile);
    room.head_bytes = head_bytes<T>(j);
    return room;
}

template <typename T>
static __device__ __forceinline__ struct head_room<T>
deal_head(const struct chunk_job &j, const struct output_room<T> &room, int i) {
    const int n = state_tiles(&j), p = head_tiles(&j), tile = tile_size<T>();
    struct head_room<T> head;
    head.x = (T *)(room.heads + i * room.head_bytes);
    head.states = head.x + p * tile;
    head.cum = (float *)(head.states + p * n * tile);
    head.w = head.cum + SIDE;
    head.state_scale = head.w + SIDE;
    return head;
}

/* Starts copying what a head needs. */
template <typename T>
static __device__ __forceinline__ void
copy_head(const struct head_room<T> &room, const struct chunk_job &j, int chunk,
          const struct chunk_place &c, int head)
{
    const int n_tiles = state_tiles(&j);
    const T *x = (const T *)j.xbc + c.row * j.ld + head * j.headdim;
    const T *states = (const T *)j.states + state_at(j, chunk, head);
    const size_t n = all_places(j), group = head / (j.n_heads / j.n_groups);
    for (int p = 0, k = 0; p < j.headdim; p += SIDE, k++) {
        copy_tile(room.x + k * tile_size<T>(), x + p, j.ld, c.rows,
                  j.headdim - p);
        for (int m = 0; m < n_tiles; m++)
            copy_tile(room.states + (k * n_tiles + m) * tile_size<T>(),
                      states + (size_t)p * j.d_state + m * SIDE, j.d_state,
                      j.headdim - p, j.d_state - m * SIDE);
    }
    copy_commit();
    for (int s = threadIdx.x; s < CHUNK; s += SIDE_THREADS) {
        room.cum[s] = j.cum[head * n + c.place + s];
        room.w[s] = j.delta[head * n + c.place + s] *
                    scale_at(j, j.x_scale, head, c.place + s) *
                    scale_at(j, j.bc_scale, group, c.place + s);
    }
    const float *scale =
        j.state_scale + ((size_t)chunk * j.n_heads + head) * j.headdim;
    for (int p = threadIdx.x; p < head_tiles(&j) * SIDE; p += SIDE_THREADS)
        room.state_scale[p] = j.imitates && p < j.headdim ? scale[p] : 1.0f;
}

/* m^ of 16 rows, a left operand over s; scale: of the rows g and g + 8. */
template <typename T>
static __device__ __forceinline__ void
weights_of(left<T> m[SIDE_STEPS], float scale[2], const float gram[SIDE / 8][4],
           const float *cum, const float *w, int row, bool imitates)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    const float cum_t[2] = {cum[row + g], cum[row + g + 8]};
    float x[SIDE / 8][4], amax[2] = {0.0f, 0.0f};
    struct exact_scale s[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int j = 0; j < SIDE / 8; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int at = 8 * j + 2 * q + e % 2, t = row + g + e / 2 * 8;
            x[j][e] = 0.0f;
            if (8 * j >= row + 16)
                continue;
            float decay = decay_between(cum_t[e / 2], cum[at], t, at);
            x[j][e] = gram[j][e] * decay * w[at];
            amax[e / 2] = fmaxf(amax[e / 2], fabsf(x[j][e]));
        }
    }
    for (int r = 0; r < 2; r++) {
        if (imitates)
            s[r] = small_scale(row_max(amax[r]));
        scale[r] = s[r].scale;
    }
#pragma unroll
    for (int j = 0; j < SIDE / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (imitates)
                x[j][e] = quantise1(x[j][e], s[e / 2].inverse);
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++)
        left_of(m[k], x, k);
}

/* y[t][p] *= column[p] row[t] */
static __device__ __forceinline__ void
scale_columns(float y[SIDE / 8][4], const float *column, const float row[2])
{
#pragma unroll
    for (int a = 0; a < SIDE / 8; a++) {
        float2 s = *(const float2 *)(column + 8 * a + lane_of() % 4 * 2);
#pragma unroll
        for (int e = 0; e < 4; e++)
            y[a][e] *= (e % 2 ? s.y : s.x) * row[e / 2];
    }
}

/* y += scale (m^ x^) */
template <typename T>
static __device__ __forceinline__ void
add_weighted(float y[SIDE / 8][4], const left<T> m[SIDE_STEPS],
             const float scale[2], const T *x, int row)
{
    float sums[SIDE / 8][4];
    clear(sums);
#pragma unroll
    for (int s = 0; s < SIDE_STEPS; s++)
        if (16 * s <= row)
            multiply_step<true>(sums, m[s], x, 16 * s, SIDE);
#pragma unroll
    for (int a = 0; a < SIDE / 8; a++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            y[a][e] = fmaf(sums[a][e], scale[e / 2], y[a][e]);
}

/* y += factor x^ */
template <typename T>
static __device__ __forceinline__ void add_own(float y[SIDE / 8][4], const T *x,
                                               const float factor[2], int row)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
#pragma unroll
    for (int a = 0; a < SIDE / 8; a++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float2 own = pair_at(x, row + g + 8 * r, 8 * a + 2 * q);
            y[a][2 * r] = fmaf(own.x, factor[r], y[a][2 * r]);
            y[a][2 * r + 1] = fmaf(own.y, factor[r], y[a][2 * r + 1]);
        }
}

template <typename T>
static __global__ void __launch_bounds__(SIDE_THREADS, 3)
    chunk_output(const __grid_constant__ struct chunk_job j, int n_heads,
                 int n_turns)
{
    extern __shared__ __align__(16) char shared[];
    const struct output_room<T> room = deal_output<T>(j, shared);
    const int chunk = blockIdx.x, first = blockIdx.y * n_heads;
    const int group = first / (j.n_heads / j.n_groups);
    const int g = lane_of() / 4;
    const int row = threadIdx.x / WARP * 16, n_tiles = state_tiles(&j);
    const int d_inner = j.n_heads * j.headdim;
    const struct chunk_place c = chunk_at(j, chunk);
    const T *b = (const T *)j.xbc + c.row * j.ld + d_inner + group * j.d_state;
    float gram[SIDE / 8][4], c_scale[2];
    for (int i = 0; i < n_tiles; i++) {
        copy_tile(room.b + i * tile_size<T>(), b + i * SIDE, j.ld, c.rows,
                  j.d_state - i * SIDE);
        copy_tile(room.c + i * tile_size<T>(),
                  b + j.n_groups * j.d_state + i * SIDE, j.ld, c.rows,
                  j.d_state - i * SIDE);
    }
    for (int r = 0; r < 2; r++)
        c_scale[r] = scale_at(j, j.bc_scale, j.n_groups + group,
                              c.place + row + g + 8 * r);
    copy_head(deal_head(j, room, 0), j, chunk, c, first);
    for (int k = 0; k < n_heads; k++) {
        const int head = first + k;
        const struct head_room<T> own = deal_head(j, room, k % n_turns);
        left<T> m[SIDE_STEPS];
        float m_scale[2], state_factor[2], own_factor[2];
        copy_wait<0>();
        __syncthreads();
        if (k == 0)
            multiply_cb(gram, room.c, room.b, row, n_tiles);
        if (n_turns > 1 && k + 1 < n_heads)
            copy_head(deal_head(j, room, 1 - k % 2), j, chunk, c, head + 1);
        weights_of(m, m_scale, gram, own.cum, own.w, row, j.imitates);
        for (int r = 0; r < 2; r++) {
            const int t = row + g + 8 * r;
            m_scale[r] *= c_scale[r];
            state_factor[r] = fast_exp2(own.cum[t]) * c_scale[r];
            own_factor[r] =
                j.d[head] * scale_at(j, j.x_scale, head, c.place + t);
        }
        for (int p = 0; p < head_tiles(&j); p++) {
            const T *x = own.x + p * tile_size<T>();
            const T *states = own.states + p * n_tiles * tile_size<T>();
            float y[SIDE / 8][4];
            clear(y);
            for (int n = 0; n < n_tiles; n++)
                multiply_tiles<false, false>(y, room.c + n * tile_size<T>(),
                                             row, states + n * tile_size<T>(),
                                             0, SIDE, SIDE);
            scale_columns(y, own.state_scale + p * SIDE, state_factor);
            add_weighted(y, m, m_scale, x, row);
            add_own(y, x, own_factor, row);
            store_rows((T *)j.y + (c.row + row) * d_inner + head * j.headdim +
                           p * SIDE,
                       d_inner, c.rows - row, j.headdim - p * SIDE,
                       room.out + row * tile_ld<T>(), y);
        }
        if (n_turns == 1 && k + 1 < n_heads) {
            __syncthreads(); /* no one reads the head */
            copy_head(own, j, chunk, c, head + 1);
        }
    }
}

/* ---- launches ------------------------------------------------------------ */

/* Heads of a block: they are of one group. */
static int heads_of_block(const struct chunk_job *j)
{
    int n = HEADS_MAX;
    while (j->n_heads / j->n_groups % n != 0)
        n /= 2;
    return n;
}

enum status chunk_turns(const struct chunk_job *j, int *n_turns, size_t one,
                        size_t two)
{
    int device, most;
    CUDA_TRY(cudaGetDevice(&device), "asking for shared memory");
    CUDA_TRY(cudaDeviceGetAttribute(
                 &most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "asking for shared memory");
    *n_turns = two <= (size_t)most ? 2 : 1;
    if (*n_turns == 1 && one > (size_t)most)
        return fail(E_DEVICE,
                    "training %d states in heads of %d takes %zu KB of shared "
                    "memory; this GPU has %d KB",
                    j->d_state, j->headdim, one >> 10, most >> 10);
    return OK;
}

template <typename T>
static enum status turns_of(const struct chunk_job *j, int *n_turns)
{
    return chunk_turns(j, n_turns, output_bytes<T>(*j, 1),
                       output_bytes<T>(*j, 2));
}

template <typename T>
static void output(const struct chunk_job *j, cudaStream_t stream)
{
    int n_heads = heads_of_block(j), n_turns;
    dim3 grid(all_chunks(j), j->n_heads / n_heads);
    if (turns_of<T>(j, &n_turns) == OK)
        chunk_output<T>
            <<<grid, SIDE_THREADS, output_bytes<T>(*j, n_turns), stream>>>(
                *j, n_heads, n_turns);
}

void launch_chunk_output(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream)
{
    in_float ? output<float>(j, stream) : output<__nv_bfloat16>(j, stream);
}

template <typename T> static enum status allow_shared(const struct chunk_job *j)
{
    int n_turns;
    TRY(turns_of<T>(j, &n_turns));
    CUDA_TRY(cudaFuncSetAttribute(chunk_output<T>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)output_bytes<T>(*j, n_turns)),
             "shared memory for heads and states of this size");
    return OK;
}

enum status output_prepare_device(const struct chunk_job *j, bool in_float)
{
    return in_float ? allow_shared<float>(j) : allow_shared<__nv_bfloat16>(j);
}

enum status chunk_prepare_device(const struct chunk_job *j, bool in_float)
{
    TRY(parts_prepare_device(in_float));
    TRY(output_back_prepare_device(j, in_float));
    return output_prepare_device(j, in_float);
}

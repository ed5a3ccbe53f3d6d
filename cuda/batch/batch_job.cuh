/* batch_job.cuh -- what the host and the blocks of a team both know: the
 * shape, the work, and where everything lies.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_JOB_CUH
#define MAMBYTE_BATCH_JOB_CUH

#include "cuda/batch/batch_method.cuh"
#include "cuda/common/reduce.cuh"

enum {
    BATCH_THREADS = 512,
    BATCH_WARPS = BATCH_THREADS / WARP,
    BATCH_STATES = 16,
    BATCH_TAPS = 4,
    TEAM_SIZE_MIN = 2,  /* st.async is for other blocks: memcheck says so  */
    TEAM_SIZE_MAX = 16, /* blocks of a cluster, as the hardware has it     */
    ROW_TILE = 16,      /* rows of a product                               */
    UNIT_DEPTH = 64,    /* of a unit of weights: 8 rows, 512 bytes         */
    UNIT_BYTES = 8 * UNIT_DEPTH,
    STAGE_BYTES = BATCH_WARPS * UNIT_BYTES,
    RING_STAGES_LEAST = 8,
    RING_STAGES_MAX = 32 /* a lane fetches each                             */
};

/* A block's channels; how many products, of 16 rows each, its tile has at most;
 * whether weights pass through a ring in shared memory; if not, how many units
 * of in_proj are on their way to registers. */
template <int channels_, int deep_, bool has_ring_, int in_ahead_>
struct batch_shape {
    static constexpr int channels = channels_, deep = deep_;
    static constexpr bool has_ring = has_ring_;
    static constexpr int in_ahead = in_ahead_; /* units                     */
    static constexpr int rows_max = deep * ROW_TILE;
    static constexpr int at_once = BATCH_THREADS / channels; /* rows         */
    static constexpr int uz_pitch = 2 * channels + 8; /* no bank conflicts  */
    static constexpr int in_tiles = 2 * channels / 8 / BATCH_WARPS; /* a warp */
    static constexpr int cells = channels / 16; /* of 16 bytes, in q */
};

/* For tiles of few rows, and for tiles of many.  Few rows of 128 channels leave
 * room for a ring. */
using batch_128_few = batch_shape<128, 2, true, 1>;
using batch_128 = batch_shape<128, 5, false, 4>;
using batch_256_few = batch_shape<256, 1, false, 4>;
using batch_256 = batch_shape<256, 2, false, 2>;

/* Where the parts of a block's share of a layer lie, in bytes.  What comes
 * before `a` is the resident part, which is copied to shared memory as it is.
 *
 * A unit is a part of a matrix as the tensor cores take it, eight rows and 64
 * deep: of row g, lane 4 g + t has bytes 4 t .. 4 t + 3, and those 16, 32 and
 * 48 after them.  A stage is a unit for each warp.  A layer's stages, in the
 * order of use:
 *
 *   in    unit by unit; a warp has tiles of eight rows of u, and of z for the
 *         same channels, in turn
 *   x     tile by tile; the units of its depth are dealt out to the warps
 *   out   unit by unit; a tile a warp, or half its depth where there are tiles
 *         for at most half of the warps
 */
struct batch_share {
    int norm, norm_bias; /* f32 [d_model]                                  */
    int conv, conv_bias; /* f32 [d_conv][channels], [channels]             */
    int dt_scale, dt_bias, d; /* f32 [channels]                            */
    int in_scale;             /* f32 [2][channels]                         */
    int x_scale;              /* f32 [x_tiles][8]                          */
    int dt_proj;              /* u32 [dt_words][channels]                  */
    int a;                    /* f32 [d_state][channels]                   */
    int out_scale;            /* f32 [d_model / size]                      */
    int stages;
    int in_units, x_stages, out_units; /* of a tile                         */
    int n_x_tiles, n_out_tiles;        /* of a block                        */
    int n_stages;
    int bytes;
};

/* The same for lm_head. */
struct batch_head {
    int norm, norm_bias; /* as in batch_share                               */
    int scale;           /* f32 [tiles][8]                                 */
    int units;
    int tiles; /* of eight rows, at most                                   */
    int bytes;
};

/* Where the arrays of a block lie in its shared memory, bytes. */
struct batch_memory {
    int h;        /* f32 [own rows][d_model]: the residual                   */
    int q;        /* i8  [rows][q_pitch]: what a product multiplies          */
    int uz;       /* f32 [rows][uz_pitch]: u, then y, and z                  */
    int dv;       /* f32 [own rows][d_model]: what out_proj adds to h        */
    int sums;     /* i32 [x tiles][rows][8] of x_proj, at the same place     */
    int dtbc;     /* f32 [rows][dtbc_stride]                                 */
    int dt_q;     /* u32 [rows][dt_words]                                    */
    int maxima;   /* u32 [size][rows]: of every block's channels             */
    int resident; /* the resident part of a share                             */
    int amax;     /* u32 [rows]: of this block's channels                    */
    int scale, inverse; /* f32 [rows]: of q                                */
    int dt_unit;        /* f32 [rows]: the scale of dt_q                   */
    int image;          /* float * [rows]: states                          */
    int byte;           /* u8 [rows]: what the streams read                */
    int norm;           /* struct norm_words, of each group of warps       */
    int come;           /* u64 [EXCHANGES]: mbarriers                      */
    int full;           /* u64 [ring_stages]: mbarriers                    */
    int ring;           /* stages of weights                               */
    int filled;         /* int: stages fetched so far                      */
    int ring_stages;
    int q_pitch, bytes;
};

enum { NORM_BYTES = 1024 }; /* room at `norm` */

/* A model as teams see it. */
struct batch_model {
    int d_model, d_inner, dt_rank, n_layer;
    int size; /* blocks in a team                                          */
    int rows; /* of a tile, at most                                        */
    bool has_norm_bias;
    float epsilon;
    struct image_layout image;
    const float *embedding;
    int dt_room, dt_words, dtbc_stride;
    int x_tiles; /* of eight rows of x_proj, with room after dt            */
    struct batch_share share;
    struct batch_head head;
    struct batch_memory at;
    const char *shares; /* [n_layer][size][share.bytes]                    */
    const char *heads;  /* [size][head.bytes]                              */
};

/* What the blocks of a team send each other in a layer, in this order. */
enum exchange {
    X_COMES, /* norm(h), quantised, and its scales                         */
    U_MAXIMA,
    U_COMES, /* u, quantised                                               */
    DTBC_COMES,
    Y_MAXIMA,
    Y_COMES,
    DV_COMES, /* what is to be added to h                                  */
    EXCHANGES
};

/* Whether two warps share the depth of a tile of eight rows. */
static __host__ __device__ __forceinline__ bool out_is_shared(int tiles)
{
    return 2 * tiles <= BATCH_WARPS;
}

/* The first tile of eight rows of lm_head that a block has. */
static __host__ __device__ __forceinline__ int head_tile(int rank, int size)
{
    return N_BYTES_VOCAB / 8 * rank / size;
}

#endif

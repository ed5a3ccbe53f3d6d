/* products.cuh -- the products of training, by cuBLAS: each is enqueued.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PRODUCTS_CUH
#define MAMBYTE_PRODUCTS_CUH

#include "cuda/common/device.cuh"

struct products;

/* A projection y = W x, made ready for a step. */
struct train_weight {
    int rows, cols, ld; /* ld: of the copies, a multiple of 8, zero filled  */
    size_t offset;      /* in the parameters                                */
    void *q;            /* [rows][ld] numbers, as forward multiplies        */
    void *seen;         /* the same with the scale multiplied out           */
    float *scale;       /* [rows]                                           */
};

/* Numbers in rows. */
struct number_rows {
    void *x;
    int ld;
};

/* E_DEVICE with the reason when cuBLAS cannot be loaded. */
enum status products_open(struct products **products, bool in_float,
                          cudaStream_t stream);
void products_close(struct products *products);

/* OK, or fail() with the first error since it was opened. */
enum status products_status(const struct products *products);

/* y = x W^T over n rows; y in float32 where y_is_float. */
void product_forward(struct products *p, const struct train_weight *w,
                     struct number_rows x, struct number_rows y,
                     bool y_is_float, int n);

/* dx = dy W. */
void product_backward(struct products *p, const struct train_weight *w,
                      struct number_rows dy, struct number_rows dx,
                      bool dx_is_float, int n);

/* dW = dy^T x, into gradient: [rows][cols]; added to it when adds. */
void product_gradient(struct products *p, const struct train_weight *w,
                      struct number_rows dy, struct number_rows x,
                      float *gradient, bool adds, int n);

/* One Newton-Schulz step of Muon on n matrices [rows][cols] of numbers, by
 * way of gram and square: [n][m][m], m the smaller side; into next. */
struct newton_schulz {
    int rows, cols, n;
    void *x, *next, *gram, *square;
};
void product_newton_schulz(struct products *p, const struct newton_schulz *s);

/* Operations a second of a large bf16 product; room for its three matrices
 * of 8192 x 8192, filled here. */
enum { RATE_SIDE = 8192 };
double products_rate(struct products *p, void *room);

#endif

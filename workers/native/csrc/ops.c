/* The operations of a decoder layer other than its matrix products, on a CPU, in bfloat16 and float32.
 *
 * Every result depends only on its own row if all numbers are finite. The order of a sum does not depend on the
 * batch, on how a prompt is split, or on the number of threads. Values are rounded where transformers' modules round.
 * The code uses the vector extensions of GCC and Clang, so that one source serves AVX2, AVX-512 and NEON.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define LANES 16
/* Query vectors that are attended together. Each key and value is read once for all of them. */
#define TILE 4
/* The same with AMX, and the largest head dimension for it. */
#define MOST_QUERIES 16
#define MOST_TILED_DIM 256
/* Minimum elements of a call for which waking other threads pays. */
#define MIN_SHARED 16384

/* Tokens of a row that one thread attends at a time. */
#define PIECE 16
#define PIECES(count) (((count) + PIECE - 1) / PIECE)
/* How many keys ahead to prefetch. */
#define AHEAD 64
#define PREFETCH(p) __builtin_prefetch(p)
/* Prefetches into a larger, more distant cache. */
#define PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t int_alias __attribute__((may_alias));
typedef uint16_t half_vec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

static const ivec IOTA = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* ---- Vectors ---- */

INLINE vec splat(float value) { return value - (vec){0}; }

INLINE vec select_vec(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }

INLINE vec max_vec(vec a, vec b) { return select_vec(a > b, a, b); }

/* Adds the halves lane by lane until one lane is left. The order is the same on every CPU. */
INLINE float sum_lanes(vec a) {
    float x[LANES];
    *(vec *)x = a;
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) x[i] += x[i + width];
    return x[0];
}

INLINE float max_lanes(vec a) {
    float x[LANES], most;
    *(vec *)x = a;
    most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* e^x as 2^n * e^r with |r| <= ln(2)/2 and a polynomial of degree 6 (Cephes' expf). 0 below -87, so that nothing is
 * subnormal. */
INLINE vec exp_vec(vec x) {
    const vec low = splat(-87.0f), high = splat(88.0f);
    ivec vanishes = x < low;
    x = select_vec(x > high, high, select_vec(vanishes, low, x));
    vec shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to an integer */
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    ivec exponent = (__builtin_convertvector(n, ivec) + 127) << 23;
    return select_vec(vanishes, splat(0), p * (vec)exponent);
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) (vec) __builtin_shuffle((vec)(a), (vec)(b), (ivec){__VA_ARGS__})
#endif

/* The lane sums of sixteen vectors as the lanes of one vector. Each shuffle is a single instruction. */
INLINE vec sum_each(vec a[LANES]) {
    for (int i = 0; i < 8; i++)
        a[i] = SHUFFLE(a[2 * i], a[2 * i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
               SHUFFLE(a[2 * i], a[2 * i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    for (int i = 0; i < 4; i++)
        a[i] = SHUFFLE(a[2 * i], a[2 * i + 1], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               SHUFFLE(a[2 * i], a[2 * i + 1], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    for (int width = 2; width > 0; width--)
        for (int i = 0; i < width; i++)
            a[i] = SHUFFLE(a[2 * i], a[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                   SHUFFLE(a[2 * i], a[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    return a[0];
}

#include "threads.h"
#include "tiles.h"

/* ---- Drawing tokens ---- */

typedef int64_t long_vec __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

/* Tokens per block. The weights of each block are summed first. */
#define BLOCK 1024
/* Number of buckets for the depths at which a token has any weight. */
#define BUCKETS 1024
/* Drawn from logits that are NaN or infinite. */
#define UNUSABLE (-1)

typedef struct {
    int64_t counts[BUCKETS], sums[BUCKETS];
} Histogram;

typedef struct {
    /* Sort key: descending logits, ties by id, which is the lower half. */
    uint64_t key;
    int64_t weight;
} Ranked;

static int compare_ranked(const void *a, const void *b) {
    uint64_t first = ((const Ranked *)a)->key, second = ((const Ranked *)b)->key;
    return (first > second) - (first < second);
}

INLINE uint64_t order_key(float logit, int64_t id) {
    union { float value; int32_t bits; } number = {.value = logit + 0.0f};
    int32_t rising = number.bits ^ ((number.bits >> 31) & 0x7fffffff);
    return (uint64_t)~((uint32_t)rising ^ 0x80000000u) << 32 | (uint64_t)id;
}

INLINE int64_t sum_long(long_vec a) {
    int64_t sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += a[lane];
    return sum;
}

INLINE int any_lane(ivec mask) {
    int64_t any[LANES / 2];
    *(ivec *)any = mask;
    for (int width = LANES / 4; width > 0; width /= 2)
        for (int i = 0; i < width; i++) any[i] |= any[i + width];
    return any[0] != 0;
}

/* A random integer below `total`. */
INLINE int64_t share_of(int64_t total, double uniform) {
    int64_t share = (int64_t)floor(uniform * (double)total);
    return share < total ? share : total - 1;
}

/* Sets all bits of the lanes whose mask bit is set. `from` is the first bit, a multiple of LANES. */
INLINE ivec mask_lanes(const uint8_t *mask, int64_t from) {
    uint16_t bits;
    __builtin_memcpy(&bits, mask + from / 8, sizeof(bits));
    return (((int32_t)bits - (ivec){0}) >> IOTA & 1) != 0;
}

/* ---- Arguments: the layout is repeated in workers/native/structs.py ---- */

typedef struct {
    /* [rows, width]: input. If `added` is set, it is added to `states` first. */
    void *states;
    const void *added, *weight;
    void *normed;
    int64_t rows, width, threads;
    double epsilon;
} Norm;

typedef struct {
    /* gated: [rows, 2 * width], gates first, then up projections. product: [rows, width]. */
    const void *gated;
    void *product;
    int64_t rows, width, threads;
} Gate;

typedef struct {
    /* [any, (heads + 2 * kv_heads) * dim]: queries, keys and values of each token. */
    const void *joined;
    /* [any, dim] */
    const void *cosine, *sine;
    /* [dim] or NULL: weights of the norms of each query and key. */
    const void *query_norm, *key_norm;
    /* [any, heads * dim] */
    void *queries;
    /* [slots, kv_heads, length, dim] */
    void *keys, *values;
    /* [tokens]: slot index and position of the key of each token, beginning with token `first`. */
    const int64_t *places, *positions;
    int64_t first, tokens, heads, kv_heads, dim, length, threads;
    double epsilon;
} Rotation;

typedef struct {
    /* Queries, with their strides in elements. */
    const void *queries;
    int64_t query_head_stride, query_token_stride;
    /* [tokens, heads, dim] */
    void *mixed;
    /* [slots, kv_heads, length, dim] */
    const void *keys, *values;
    /* [num_rows, 4]: first token among the queries, number of tokens, slot index, first position. */
    const int64_t *rows;
    int64_t num_rows, heads, kv_heads, dim, length;
    /* Number of keys that a query sees, including its own. 0: all. */
    int64_t window;
    /* Floats per thread: at least workspace_size(). */
    float *workspace;
    int64_t workspace_stride, threads;
    double scaling;
} Attention;

typedef struct {
    /* [rows, width] */
    const void *logits;
    /* masks: [rows, mask_width], a bit for each token that may be drawn, token 0 in the lowest bit, then MASK_SURPLUS
     * ignored bits. NULL: every token may be drawn. is_barred: [rows], whether the row's mask bars any token. */
    const uint8_t *masks, *is_barred;
    /* [rows]. At temperature 0 the most likely token is drawn. */
    const float *temperatures, *min_p;
    const int64_t *top_k;
    const double *top_p, *uniform;
    int64_t *drawn;
    /* Per thread, as many entries as a row has tokens. Unused if no row has top_k or top_p. */
    Ranked *workspace;
    /* bits: the most likely token has weight 2^bits. */
    int64_t rows, width, mask_width, bits, threads;
} Drawing;

/* Floats that a thread needs to attend to `length` keys. */
int64_t workspace_size(int64_t length) { return MOST_QUERIES * (length + LANES); }

/* ---- Instances for each element type ---- */

#define NAME(name) name##_float32
#define element float
#define LOAD(p) (*(const vec *)(p))
#define STORE(p, v) (*(vec *)(p) = (v))
#define ROUND(v) (v)
#include "ops_typed.h"
#include "attention_by_fma.h"
#include "attention.h"
#include "drawing.h"
#undef NAME
#undef element
#undef LOAD
#undef STORE
#undef ROUND

INLINE vec load_bfloat16(const uint16_t *p) {
    return (vec)(__builtin_convertvector(*(const half_vec *)p, uvec) << 16);
}

/* Rounds to nearest, ties to even. NaN stays NaN. */
#ifdef __AVX512BF16__
#include <immintrin.h>

INLINE half_vec bfloat16_bits(vec v) { return (half_vec)_mm512_cvtneps_pbh((__m512)v); }

#else

INLINE half_vec bfloat16_bits(vec v) {
    uvec bits = (uvec)v;
    uvec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uvec is_nan = (uvec)((bits & 0x7fffffff) > 0x7f800000);
    return __builtin_convertvector((rounded & ~is_nan) | (0x7fc0 & is_nan), half_vec);
}

#endif

INLINE void store_bfloat16(uint16_t *p, vec v) { *(half_vec *)p = bfloat16_bits(v); }

INLINE vec round_bfloat16(vec v) { return (vec)(__builtin_convertvector(bfloat16_bits(v), uvec) << 16); }

#define NAME(name) name##_bfloat16
#define element uint16_t
#define LOAD(p) load_bfloat16(p)
#define STORE(p, v) store_bfloat16(p, v)
#define ROUND(v) round_bfloat16(v)
#include "ops_typed.h"
#ifdef __AVX512BF16__
#include "attention_by_dot.h"
#ifdef __AMX_BF16__
#define ATTENDS_BY_TILES
#endif
#else
#include "attention_by_fma.h"
#endif
#include "attention.h"
#include "drawing.h"
#undef NAME
#undef element
#undef LOAD
#undef STORE
#undef ROUND

#include "product.h"

/* ---- The structs' layouts, which workers/native/structs.py compares with its own when it loads the library ---- */

/* For each struct: its size, the offsets of its fields in order, and -1. */
static const int64_t LAYOUTS[] = {
#define AT(field) offsetof(STRUCT, field)
#define STRUCT Norm
    sizeof(STRUCT), AT(states), AT(added), AT(weight), AT(normed), AT(rows), AT(width), AT(threads), AT(epsilon),
    -1,
#undef STRUCT
#define STRUCT Gate
    sizeof(STRUCT), AT(gated), AT(product), AT(rows), AT(width), AT(threads), -1,
#undef STRUCT
#define STRUCT Rotation
    sizeof(STRUCT), AT(joined), AT(cosine), AT(sine), AT(query_norm), AT(key_norm), AT(queries), AT(keys),
    AT(values), AT(places), AT(positions), AT(first), AT(tokens), AT(heads), AT(kv_heads), AT(dim), AT(length),
    AT(threads), AT(epsilon), -1,
#undef STRUCT
#define STRUCT Attention
    sizeof(STRUCT), AT(queries), AT(query_head_stride), AT(query_token_stride), AT(mixed), AT(keys), AT(values),
    AT(rows), AT(num_rows), AT(heads), AT(kv_heads), AT(dim), AT(length), AT(window), AT(workspace),
    AT(workspace_stride), AT(threads), AT(scaling), -1,
#undef STRUCT
#define STRUCT Product
    sizeof(STRUCT), AT(x), AT(weight), AT(bias), AT(y), AT(rows), AT(width), AT(outputs), AT(threads), -1,
#undef STRUCT
#define STRUCT Int8Product
    sizeof(STRUCT), AT(product.x), AT(product.weight), AT(product.bias), AT(product.y), AT(product.rows),
    AT(product.width), AT(product.outputs), AT(product.threads), AT(inputs), AT(row_scales), AT(scales),
    AT(surplus), AT(is_float32), -1,
#undef STRUCT
#define STRUCT Drawing
    sizeof(STRUCT), AT(logits), AT(masks), AT(is_barred), AT(temperatures), AT(min_p), AT(top_k), AT(top_p),
    AT(uniform), AT(drawn), AT(workspace), AT(rows), AT(width), AT(mask_width), AT(bits), AT(threads), -1,
#undef STRUCT
#undef AT
};

const int64_t *layouts(void) { return LAYOUTS; }

int64_t num_layout_values(void) { return sizeof(LAYOUTS) / sizeof(LAYOUTS[0]); }

/* ---- Recorded operations in one call ---- */

typedef struct {
    void (*operation)(const void *arguments);
    const void *arguments;
} Call;

void run_calls(const Call *calls, int64_t num) {
    for (int64_t i = 0; i < num; i++) calls[i].operation(calls[i].arguments);
}

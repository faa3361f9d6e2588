/* Included by ops.c: bfloat16 products, for CPUs that multiply pairs of them (AMX, AVX-512 BF16), and int8 products,
 * for CPUs that multiply four (AMX, AVX-512 VNNI).
 *
 * A row's sums are taken in the order of the inputs, whatever rows are computed with it.
 */

typedef struct {
    /* [rows][width] */
    const uint8_t *x;
    /* [outputs / PANEL][width / DEPTH][2] tiles */
    const uint8_t *weight;
    /* [outputs], or NULL */
    const void *bias;
    /* [rows, outputs] */
    void *y;
    /* width: bytes of a row, and of an output's weights. */
    int64_t rows, width, outputs, threads;
} Product;

typedef struct {
    /* x is written: `inputs` quantized with zero point 128. bias is float32. */
    Product product;
    /* [rows, width], float32 or bfloat16 like y. */
    const void *inputs;
    /* [rows], written: the scale of each row of x. */
    float *row_scales;
    /* [outputs]: the scale of each output's weights, and the amount that the zero point of the inputs adds to a sum. */
    const float *scales;
    const int32_t *surplus;
    int64_t is_float32;
} Int8Product;

#if defined(__AVX512BF16__) || defined(__AVX512VNNI__)
#include <immintrin.h>

/* Sizes in bytes. A tile of weights is [16 groups of inputs][16 outputs] of four bytes: two bfloat16 inputs, or four
 * int8 inputs. */
#define DEPTH 64
#define TILE_SIZE (16 * DEPTH)
/* Outputs whose tiles are adjacent, two for each depth of inputs. */
#define PANEL 32
/* Weights come from memory. They are prefetched into the core's second-level cache as early as they need to arrive,
 * and shortly before use into its small first-level cache. No further ahead: after a thread's block come the weights
 * of another thread. */
#define WEIGHTS_AHEAD (8 * TILE_SIZE)
#define SOON (2 * TILE_SIZE)
/* Blocks per thread, so that all threads finish together; maximum panels per block. */
#define BLOCKS_OF_THREAD 4
#define MOST_PANELS 16

INLINE void fetch_weights(const uint8_t *weight) {
    for (int64_t line = 0; line < 2 * TILE_SIZE; line += 64) {
        PREFETCH_FAR(weight + WEIGHTS_AHEAD + line);
        PREFETCH(weight + SOON + line);
    }
}

/* Adjacent panels that one thread computes, since it has prefetched the next one's weights. */
INLINE int64_t panels_of_block(const Product *p) {
    int64_t panels = p->outputs / PANEL, blocks = BLOCKS_OF_THREAD * p->threads;
    return panels < blocks ? 1 : panels / blocks < MOST_PANELS ? panels / blocks : MOST_PANELS;
}

#if defined(__AMX_BF16__) || defined(__AMX_INT8__)

/* Tiles 0 and 1 hold the sums of the first 16 rows, 2 and 3 those of the others. Tiles 4 and 5 hold their inputs, 6
 * and 7 weights. */
INLINE void configure_tiles(int64_t rows) {
    const uint8_t first = (uint8_t)(rows < 16 ? rows : 16), others = (uint8_t)(rows > 16 ? rows - 16 : 1);
    const uint8_t heights[8] = {first, first, others, others, first, others, 16, 16};
    configure_heights(heights);
}

#endif

#endif

/* ---- bfloat16 ---- */

#ifdef __AVX512BF16__

/* Stores 32 outputs of a row, rounded to nearest, ties to even. */
INLINE void store_bfloat16_sums(const Product *p, int64_t row, int64_t output, vec left, vec right) {
    if (p->bias) {
        left += load_bfloat16((const uint16_t *)p->bias + output);
        right += load_bfloat16((const uint16_t *)p->bias + output + 16);
    }
    _mm512_storeu_si512((uint16_t *)p->y + row * p->outputs + output,
                        (__m512i)_mm512_cvtne2ps_pbh((__m512)right, (__m512)left));
}

#define NAME(name) name##_bfloat16
#define sum_vec vec
#define ADD_PRODUCTS(sum, x, weight) dot_pairs(sum, x, weight)
#define STORE_SUMS store_bfloat16_sums
#ifdef __AMX_BF16__
#define MULTIPLY_TILES(sum, x, weight) _tile_dpbf16ps(sum, x, weight)
#endif
#include "product_typed.h"

#ifdef __AMX_BF16__
int64_t has_products(void) { return may_use_tiles(); }
#else
int64_t has_products(void) { return 1; }
#endif

#else

int64_t has_products(void) { return 0; }

#endif

/* ---- int8 ---- */

#ifdef __AVX512VNNI__

INLINE vec load_inputs(const Int8Product *p, int64_t place, int is_float32) {
    return is_float32 ? *(const vec *)((const float *)p->inputs + place)
                      : load_bfloat16((const uint16_t *)p->inputs + place);
}

/* Scales a row so that its largest number becomes 127. Magnitudes compare like their bits, with NaN above all: it
 * spoils its own row and no other. */
INLINE void round_row(const Int8Product *p, int64_t row, const int is_float32) {
    const int64_t width = p->product.width, start = row * width;
    uint8_t *x = (uint8_t *)p->product.x + start;
    uvec most = {0};
    for (int64_t i = 0; i < width; i += LANES) {
        uvec magnitudes = (uvec)load_inputs(p, start + i, is_float32) & 0x7fffffff;
        most = (uvec)_mm512_max_epu32((__m512i)most, (__m512i)magnitudes);
    }
    union { uint32_t bits; float value; } largest = {.bits = _mm512_reduce_max_epu32((__m512i)most)};
    float scale = largest.value / 127.0f;
    if (scale < __FLT_MIN__) scale = __FLT_MIN__;
    for (int64_t i = 0; i < width; i += LANES) {
        vec shifted = load_inputs(p, start + i, is_float32) / splat(scale) + 128.5f;
        _mm_storeu_si128((__m128i *)(x + i), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32((__m512)shifted)));
    }
    p->row_scales[row] = scale;
}

static void round_item(const void *arguments, int64_t row, int thread) {
    const Int8Product *p = arguments;
    (void)thread;
    if (p->is_float32) round_row(p, row, 1);
    else round_row(p, row, 0);
}

/* Rounds each step separately, where a compiler would fuse the last two. */
#define ROUNDED(operation, a, b) \
    (vec) operation((__m512)(a), (__m512)(b), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

/* Stores 16 outputs of a row. */
INLINE void store_int8_side(const Int8Product *p, int64_t row, int64_t output, ivec sums) {
    const float *bias = p->product.bias;
    const int64_t place = row * p->product.outputs + output;
    vec scaled = __builtin_convertvector(sums - *(const ivec *)(p->surplus + output), vec);
    scaled = ROUNDED(_mm512_mul_round_ps, scaled, *(const vec *)(p->scales + output));
    scaled = ROUNDED(_mm512_mul_round_ps, scaled, splat(p->row_scales[row]));
    if (bias) scaled = ROUNDED(_mm512_add_round_ps, scaled, *(const vec *)(bias + output));
    if (p->is_float32) *(vec *)((float *)p->product.y + place) = scaled;
    else store_bfloat16((uint16_t *)p->product.y + place, scaled);
}

INLINE void store_int8_sums(const Product *p, int64_t row, int64_t output, ivec left, ivec right) {
    store_int8_side((const Int8Product *)p, row, output, left);
    store_int8_side((const Int8Product *)p, row, output + 16, right);
}

#define NAME(name) name##_int8
#define sum_vec ivec
#define ADD_PRODUCTS(sum, x, weight) (ivec) _mm512_dpbusd_epi32((__m512i)(sum), x, weight)
#define STORE_SUMS store_int8_sums
#ifdef __AMX_INT8__
#define MULTIPLY_TILES(sum, x, weight) _tile_dpbusd(sum, x, weight)
#endif
#include "product_typed.h"

void round_and_multiply(const Int8Product *p) {
    const Product *product = &p->product;
    share(round_item, p, product->rows, product->rows * product->width < MIN_SHARED ? 1 : product->threads);
    multiply_int8(product);
}

#ifdef __AMX_INT8__
int64_t has_int8_products(void) { return may_use_tiles(); }
#else
int64_t has_int8_products(void) { return 1; }
#endif

#else

int64_t has_int8_products(void) { return 0; }

#endif

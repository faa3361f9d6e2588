/* Included by ops.c: products of bfloat16, for CPUs that multiply pairs of them (AMX, AVX-512 BF16).
 *
 * A row's sums are taken in the order of the inputs, whatever rows are computed beside it.
 */

#ifdef __AVX512BF16__
#include <immintrin.h>

/* Inputs of a tile of weights, which is [16 pairs of inputs][16 outputs][2]; two tiles lie side by side. */
#define DEPTH 32
#define TILE_SIZE (16 * DEPTH)
#define PANEL 32
/* Weights come from memory: they are fetched into the core's second cache as far ahead as they take to arrive, and
 * shortly before they are read into its first, which has room for few. */
#define WEIGHTS_AHEAD (48 * TILE_SIZE)
#define SOON (4 * TILE_SIZE)
/* Blocks that each thread has of a product, so that all end together; panels of one. */
#define BLOCKS_OF_THREAD 4
#define MOST_PANELS 16

typedef struct {
    /* [rows, inputs] */
    const uint16_t *x;
    /* [outputs / PANEL][inputs / DEPTH][2] tiles */
    const uint16_t *weight;
    /* [outputs], or NULL */
    const uint16_t *bias;
    /* [rows, outputs] */
    uint16_t *y;
    int64_t rows, inputs, outputs, threads;
} Product;

INLINE void fetch_weights(const uint16_t *weight) {
    for (int64_t line = 0; line < 2 * TILE_SIZE; line += 32) {
        PREFETCH_FAR(weight + WEIGHTS_AHEAD + line);
        PREFETCH(weight + SOON + line);
    }
}

/* 32 outputs of a row, rounded to the nearest, ties to even. */
INLINE void store_outputs(uint16_t *y, vec left, vec right) {
    _mm512_storeu_si512(y, (__m512i)_mm512_cvtne2ps_pbh((__m512)right, (__m512)left));
}

INLINE vec product_bias(const Product *p, int64_t output) {
    return p->bias ? load_bfloat16(p->bias + output) : (vec){0};
}

#ifdef __AMX_BF16__

#include <sys/syscall.h>
#include <unistd.h>

/* Tiles 0 and 1 are the sums of the first 16 rows, 2 and 3 those of the others; 4 and 5 are their inputs, 6 and 7
 * weights. */
INLINE void configure_tiles(int64_t rows) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t width[16];
        uint8_t height[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.width[tile] = 64;
        config.height[tile] = 16;
    }
    config.height[0] = config.height[1] = config.height[4] = (uint8_t)(rows < 16 ? rows : 16);
    config.height[2] = config.height[3] = config.height[5] = (uint8_t)(rows > 16 ? rows - 16 : 1);
    _tile_loadconfig(&config);
}

/* Two tiles of sums, with the bias, as rows of y. */
#define STORE_SUMS(left, right, from, num)                                      \
    do {                                                                        \
        _tile_stored(left, sums[0], 64);                                        \
        _tile_stored(right, sums[1], 64);                                       \
        for (int64_t r = 0; r < (num); r++)                                     \
            store_outputs(p->y + (row + (from) + r) * p->outputs + output,      \
                          *(const vec *)(sums[0] + 16 * r) + bias[0],           \
                          *(const vec *)(sums[1] + 16 * r) + bias[1]);          \
    } while (0)

/* Up to 16 rows, or, where `is_more`, up to 32. The first that need a panel fetch the next one's weights. */
INLINE void multiply_rows(const Product *p, int64_t panel, int64_t row, int64_t num, int is_more, int is_first) {
    const int64_t output = panel * PANEL, stride = 2 * p->inputs;
    const uint16_t *weight = p->weight + output * p->inputs, *x = p->x + row * p->inputs;
    float sums[2][256] __attribute__((aligned(64)));
    const vec bias[2] = {product_bias(p, output), product_bias(p, output + 16)};
    _tile_zero(0);
    _tile_zero(1);
    if (is_more) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < p->inputs; i += DEPTH, weight += 2 * TILE_SIZE) {
        if (is_first) fetch_weights(weight);
        _tile_loadd(6, weight, 64);
        _tile_loadd(7, weight + TILE_SIZE, 64);
        _tile_loadd(4, x + i, stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (is_more) {
            _tile_loadd(5, x + i + 16 * p->inputs, stride);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    STORE_SUMS(0, 1, 0, is_more ? 16 : num);
    if (is_more) STORE_SUMS(2, 3, 16, num - 16);
}

static void multiply_panels(const Product *p, int64_t panel, int64_t end) {
    int64_t configured = 0;
    for (; panel < end; panel++)
        for (int64_t row = 0; row < p->rows; row += 32) {
            int64_t num = p->rows - row < 32 ? p->rows - row : 32;
            if (num != configured) configure_tiles(configured = num);
            if (num > 16) multiply_rows(p, panel, row, num, 1, row == 0);
            else multiply_rows(p, panel, row, num, 0, row == 0);
        }
    _tile_release();
}

/* Whether this process may use AMX's registers: Linux gives them to whom asks
 * (docs.kernel.org/arch/x86/xstate.html). */
int64_t has_products(void) {
    const int request = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

#else

/* `num` rows, at most eight. */
INLINE void multiply_rows(const Product *p, int64_t panel, int64_t row, const int num, int is_first) {
    const int64_t output = panel * PANEL;
    const uint16_t *weight = p->weight + output * p->inputs, *x = p->x + row * p->inputs;
    vec sums[8][2] = {{{0}}};
    for (int64_t i = 0; i < p->inputs; i += DEPTH, weight += 2 * TILE_SIZE) {
        if (is_first) fetch_weights(weight);
        for (int pair = 0; pair < DEPTH / 2; pair++) {
            __m512i left = _mm512_loadu_si512(weight + 32 * pair);
            __m512i right = _mm512_loadu_si512(weight + TILE_SIZE + 32 * pair);
#pragma GCC unroll 8
            for (int r = 0; r < num; r++) {
                __m512i inputs = _mm512_set1_epi32(*(const int_alias *)(x + r * p->inputs + i + 2 * pair));
                sums[r][0] = dot_pairs(sums[r][0], inputs, left);
                sums[r][1] = dot_pairs(sums[r][1], inputs, right);
            }
        }
    }
    for (int r = 0; r < num; r++)
        store_outputs(p->y + (row + r) * p->outputs + output, sums[r][0] + product_bias(p, output),
                      sums[r][1] + product_bias(p, output + 16));
}

INLINE void multiply_panel(const Product *p, int64_t panel) {
    int64_t row = 0;
    for (; p->rows - row >= 8; row += 8) multiply_rows(p, panel, row, 8, row == 0);
    /* So that the compiler keeps the sums of each size in registers. */
    switch (p->rows - row) {
        case 1: multiply_rows(p, panel, row, 1, row == 0); break;
        case 2: multiply_rows(p, panel, row, 2, row == 0); break;
        case 3: multiply_rows(p, panel, row, 3, row == 0); break;
        case 4: multiply_rows(p, panel, row, 4, row == 0); break;
        case 5: multiply_rows(p, panel, row, 5, row == 0); break;
        case 6: multiply_rows(p, panel, row, 6, row == 0); break;
        case 7: multiply_rows(p, panel, row, 7, row == 0); break;
    }
}

static void multiply_panels(const Product *p, int64_t panel, int64_t end) {
    for (; panel < end; panel++) multiply_panel(p, panel);
}

int64_t has_products(void) { return 1; }

#endif

/* Panels that lie side by side, which one thread computes: it has fetched the next one's weights ahead. */
INLINE int64_t panels_of_block(const Product *p) {
    int64_t panels = p->outputs / PANEL, blocks = BLOCKS_OF_THREAD * p->threads;
    return panels < blocks ? 1 : panels / blocks < MOST_PANELS ? panels / blocks : MOST_PANELS;
}

static void multiply_block(const void *arguments, int64_t block, int thread) {
    const Product *p = arguments;
    const int64_t num = panels_of_block(p), panels = p->outputs / PANEL, first = block * num;
    (void)thread;
    multiply_panels(p, first, first + num < panels ? first + num : panels);
}

void multiply(const Product *p) {
    const int64_t num = panels_of_block(p);
    share(multiply_block, p, (p->outputs / PANEL + num - 1) / num, p->threads);
}

#else

int64_t has_products(void) { return 0; }

#endif

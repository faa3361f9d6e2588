/* Included by ops.c: products of bfloat16 by the matrix instructions of AMX, where the CPU has them.
 *
 * A row's sums are taken in the order of the inputs, 32 at a time, whatever rows are computed beside it.
 */

#ifdef __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Inputs of a tile of weights, which is [16 pairs of inputs][16 outputs][2]; two tiles lie side by side. */
#define DEPTH 32
#define TILE_SIZE (16 * DEPTH)
#define PANEL 32
/* Weights come from memory: as many are fetched ahead as arrive meanwhile. */
#define WEIGHTS_AHEAD (16 * TILE_SIZE)

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
#define STORE_SUMS(left, right, from, num)                                           \
    do {                                                                             \
        _tile_stored(left, sums[0], 64);                                             \
        _tile_stored(right, sums[1], 64);                                            \
        for (int64_t r = 0; r < (num); r++)                                          \
            for (int side = 0; side < 2; side++)                                     \
                store_bfloat16(p->y + (row + (from) + r) * p->outputs + output + 16 * side, \
                               *(const vec *)(sums[side] + 16 * r) + bias[side]);    \
    } while (0)

/* Up to 16 rows, or, where `is_more`, up to 32. The first that need a panel fetch the next one's weights. */
INLINE void multiply_rows(const Product *p, int64_t panel, int64_t row, int64_t num, int is_more, int is_first) {
    const int64_t output = panel * PANEL, stride = 2 * p->inputs;
    const uint16_t *weight = p->weight + output * p->inputs, *x = p->x + row * p->inputs;
    float sums[2][256] __attribute__((aligned(64)));
    vec bias[2] = {{0}, {0}};
    if (p->bias)
        for (int side = 0; side < 2; side++) bias[side] = load_bfloat16(p->bias + output + 16 * side);
    _tile_zero(0);
    _tile_zero(1);
    if (is_more) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < p->inputs; i += DEPTH, weight += 2 * TILE_SIZE) {
        if (is_first)
            for (int64_t line = 0; line < 2 * TILE_SIZE; line += 32) PREFETCH(weight + WEIGHTS_AHEAD + line);
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

static void multiply_panel(const void *arguments, int64_t panel, int thread) {
    const Product *p = arguments;
    (void)thread;
    int64_t configured = 0;
    for (int64_t row = 0; row < p->rows; row += 32) {
        int64_t num = p->rows - row < 32 ? p->rows - row : 32;
        if (num != configured) configure_tiles(configured = num);
        if (num > 16) multiply_rows(p, panel, row, num, 1, row == 0);
        else multiply_rows(p, panel, row, num, 0, row == 0);
    }
    _tile_release();
}

void multiply(const Product *p) { share(multiply_panel, p, p->outputs / PANEL, p->threads); }

/* Whether this process may use the registers of AMX: Linux gives them to whom asks
 * (docs.kernel.org/arch/x86/xstate.html). */
int64_t has_products(void) {
    const int request = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

#else

int64_t has_products(void) { return 0; }

#endif

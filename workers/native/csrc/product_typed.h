/* Included by product.h once per type. Requires NAME, `sum_vec` for 16 outputs' sums, ADD_PRODUCTS of four bytes per
 * output, and STORE_SUMS of 32 outputs; with AMX also MULTIPLY_TILES. */

#ifdef MULTIPLY_TILES

/* Stores two tiles of sums as rows of y. */
#define STORE_TILES(left, right, from, num)                                                  \
    do {                                                                                     \
        _tile_stored(left, sums[0], 64);                                                     \
        _tile_stored(right, sums[1], 64);                                                    \
        for (int64_t r = 0; r < (num); r++)                                                  \
            STORE_SUMS(p, row + (from) + r, panel * PANEL, sums[0][r], sums[1][r]);          \
    } while (0)

/* Multiplies up to 16 rows, or up to 32 if `is_more`. The first rows of a panel prefetch the next panel's weights. */
INLINE void NAME(multiply_rows)(const Product *p, int64_t panel, int64_t row, int64_t num, int is_more, int is_first) {
    const int64_t width = p->width;
    const uint8_t *weight = p->weight + panel * PANEL * width, *x = p->x + row * width;
    sum_vec sums[2][16] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    if (is_more) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < width; i += DEPTH, weight += 2 * TILE_SIZE) {
        if (is_first) fetch_weights(weight);
        _tile_loadd(6, weight, 64);
        _tile_loadd(7, weight + TILE_SIZE, 64);
        _tile_loadd(4, x + i, width);
        MULTIPLY_TILES(0, 4, 6);
        MULTIPLY_TILES(1, 4, 7);
        if (is_more) {
            _tile_loadd(5, x + i + 16 * width, width);
            MULTIPLY_TILES(2, 5, 6);
            MULTIPLY_TILES(3, 5, 7);
        }
    }
    STORE_TILES(0, 1, 0, is_more ? 16 : num);
    if (is_more) STORE_TILES(2, 3, 16, num - 16);
}

static void NAME(multiply_panels)(const Product *p, int64_t panel, int64_t end) {
    int64_t configured = 0;
    for (; panel < end; panel++)
        for (int64_t row = 0; row < p->rows; row += 32) {
            int64_t num = p->rows - row < 32 ? p->rows - row : 32;
            if (num != configured) configure_tiles(configured = num);
            if (num > 16) NAME(multiply_rows)(p, panel, row, num, 1, row == 0);
            else NAME(multiply_rows)(p, panel, row, num, 0, row == 0);
        }
    _tile_release();
}

#undef STORE_TILES

#else

/* Multiplies `num` rows, at most eight. */
INLINE void NAME(multiply_rows)(const Product *p, int64_t panel, int64_t row, const int num, int is_first) {
    const int64_t width = p->width;
    const uint8_t *weight = p->weight + panel * PANEL * width, *x = p->x + row * width;
    sum_vec sums[8][2] = {{{0}}};
    for (int64_t i = 0; i < width; i += DEPTH, weight += 2 * TILE_SIZE) {
        if (is_first) fetch_weights(weight);
        for (int group = 0; group < 16; group++) {
            __m512i left = _mm512_loadu_si512(weight + 64 * group);
            __m512i right = _mm512_loadu_si512(weight + TILE_SIZE + 64 * group);
#pragma GCC unroll 8
            for (int r = 0; r < num; r++) {
                __m512i inputs = _mm512_set1_epi32(*(const int_alias *)(x + r * width + i + 4 * group));
                sums[r][0] = ADD_PRODUCTS(sums[r][0], inputs, left);
                sums[r][1] = ADD_PRODUCTS(sums[r][1], inputs, right);
            }
        }
    }
    for (int r = 0; r < num; r++) STORE_SUMS(p, row + r, panel * PANEL, sums[r][0], sums[r][1]);
}

INLINE void NAME(multiply_panel)(const Product *p, int64_t panel) {
    int64_t row = 0;
    for (; p->rows - row >= 8; row += 8) NAME(multiply_rows)(p, panel, row, 8, row == 0);
    /* One call per size, so that the compiler keeps the sums in registers. */
    switch (p->rows - row) {
        case 1: NAME(multiply_rows)(p, panel, row, 1, row == 0); break;
        case 2: NAME(multiply_rows)(p, panel, row, 2, row == 0); break;
        case 3: NAME(multiply_rows)(p, panel, row, 3, row == 0); break;
        case 4: NAME(multiply_rows)(p, panel, row, 4, row == 0); break;
        case 5: NAME(multiply_rows)(p, panel, row, 5, row == 0); break;
        case 6: NAME(multiply_rows)(p, panel, row, 6, row == 0); break;
        case 7: NAME(multiply_rows)(p, panel, row, 7, row == 0); break;
    }
}

static void NAME(multiply_panels)(const Product *p, int64_t panel, int64_t end) {
    for (; panel < end; panel++) NAME(multiply_panel)(p, panel);
}

#endif

static void NAME(multiply_block)(const void *arguments, int64_t block, int thread) {
    const Product *p = arguments;
    const int64_t num = panels_of_block(p), panels = p->outputs / PANEL, first = block * num;
    (void)thread;
    NAME(multiply_panels)(p, first, first + num < panels ? first + num : panels);
}

void NAME(multiply)(const Product *p) {
    const int64_t num = panels_of_block(p);
    share(NAME(multiply_block), p, (p->outputs / PANEL + num - 1) / num, p->threads);
}

#undef NAME
#undef sum_vec
#undef ADD_PRODUCTS
#undef STORE_SUMS
#undef MULTIPLY_TILES

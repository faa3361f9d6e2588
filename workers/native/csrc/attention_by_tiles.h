/* Included by ops.c for bfloat16 on CPUs with AMX: sixteen queries at a time, 32 keys per step.
 *
 * A query's results depend neither on the other queries nor on their number, if values are finite: each query has a
 * column of the score tiles and a row of the sum tiles. Steps begin at multiples of 32 keys for all queries.
 */

_Static_assert(MOST_QUERIES == 16 && LANES == 16, "a tile has 16 rows of 16 float32");

/* Keys per step: as many as one tile of weights holds. */
#define STEP 32
/* Minimum heads per key-value head at which this is no slower for single tokens. */
#define LEAST_SHARING 3

/* Tiles 0 to 3 hold weighted sums, 4 their weights, 5 and 6 values. Tile 7 holds scores, 6 their keys, 5 queries. */
INLINE void configure_attention(int num) {
    const uint8_t rows = (uint8_t)num, heights[8] = {rows, rows, rows, rows, rows, 16, 16, 16};
    configure_heights(heights);
}

/* Arranges queries as pairs of dimensions: [dim / 32][16 pairs][16 queries] of 32 bits. */
INLINE void lay_queries(const NAME(Tile) *tile, int num, int64_t dim, int_alias *pairs) {
    for (int q = 0; q < num; q++)
        for (int64_t pair = 0; pair < dim / 2; pair++) pairs[pair * 16 + q] = ((const int_alias *)tile->query[q])[pair];
}

/* Transposes the scores of four queries out of [16 keys][16 queries]. */
INLINE void turn_scores(const float *scores, vec turned[4]) {
    __m512 rows[4];
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_castps128_ps512(_mm_loadu_ps(scores + i * 16));
        rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(scores + (i + 4) * 16), 1);
        rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(scores + (i + 8) * 16), 2);
        rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(scores + (i + 12) * 16), 3);
    }
    __m512d low = (__m512d)_mm512_unpacklo_ps(rows[0], rows[1]), high = (__m512d)_mm512_unpackhi_ps(rows[0], rows[1]);
    __m512d next_low = (__m512d)_mm512_unpacklo_ps(rows[2], rows[3]);
    __m512d next_high = (__m512d)_mm512_unpackhi_ps(rows[2], rows[3]);
    turned[0] = (vec)_mm512_unpacklo_pd(low, next_low);
    turned[1] = (vec)_mm512_unpackhi_pd(low, next_low);
    turned[2] = (vec)_mm512_unpacklo_pd(high, next_high);
    turned[3] = (vec)_mm512_unpackhi_pd(high, next_high);
}

/* The scores of all keys from `start` on, with -inf for unseen keys. Meanwhile it prefetches the values. */
INLINE void score_by_tiles(const NAME(Tile) *tile, int num, const element *keys, const element *values, int64_t dim,
                           float scaling, int64_t start, int64_t end) {
    int_alias pairs[MOST_TILED_DIM / 2 * 16] __attribute__((aligned(64)));
    float scores[16 * LANES] __attribute__((aligned(64)));
    vec own[4];
    lay_queries(tile, num, dim, pairs);
    SETTLE();
    for (int64_t key = start; key < end; key += LANES) {
        const element *block = keys + key * dim;
        NAME(fetch)(values + key * dim, dim);
        _tile_zero(7);
        for (int64_t i = 0; i < dim; i += 32) {
            _tile_loadd(6, block + i, dim * sizeof(element));
            _tile_loadd(5, pairs + i / 2 * 16, 64);
            _tile_dpbf16ps(7, 6, 5);
        }
        _tile_stored(7, scores, 64);
        for (int q = 0; q < num; q++) {
            if (q % 4 == 0) turn_scores(scores + q, own);
            vec scaled = own[q % 4] * scaling;
            if (key < tile->first[q] || key + LANES > tile->end[q]) scaled = NAME(hide)(tile, q, key, scaled);
            *(vec *)(tile->scores[q] + key - start) = scaled;
        }
    }
}

/* Arranges STEP values, zeros after `end`, as pairs of keys by dimension: 2 x `halves` tiles. Their columns are in
 * the order in which the CPU interleaves. */
INLINE void lay_values(const element *values, int64_t key, int64_t end, int64_t dim, int halves, uint8_t *laid) {
    for (int64_t pair = 0; pair < STEP / 2; pair++) {
        const element *at = values + (key + 2 * pair) * dim;
        for (int half = 0; half < halves; half++) {
            __m512i even = _mm512_setzero_si512(), odd = even;
            if (key + 2 * pair < end) even = _mm512_loadu_si512(at + half * 32);
            if (key + 2 * pair + 1 < end) odd = _mm512_loadu_si512(at + dim + half * 32);
            uint8_t *to = laid + half * 2048 + pair * 64;
            _mm512_store_si512(to, _mm512_unpacklo_epi16(even, odd));
            _mm512_store_si512(to + 1024, _mm512_unpackhi_epi16(even, odd));
        }
    }
}

/* The weighted sums of 32 x `halves` dimensions of the values, divided by the sums of weights. */
INLINE void mix_by_tiles(const NAME(Tile) *tile, int num, const float *inverse, const element *values, int64_t start,
                         int64_t end, int64_t dim, int halves, int64_t offset) {
    uint8_t laid[4 * 1024] __attribute__((aligned(64)));
    float sums[4][16 * LANES] __attribute__((aligned(64)));
    const int64_t stride = num > 1 ? (const uint8_t *)tile->scores[1] - (const uint8_t *)tile->scores[0] : 64;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t key = start; key < end; key += STEP) {
        for (int64_t k = 0; k < STEP; k++)
            for (int64_t i = 0; i < 32 * halves; i += 32)
                PREFETCH_FAR(tile->next + (key + k) * dim + offset + i);
        lay_values(values + offset, key, end, dim, halves, laid);
        SETTLE();
        _tile_loadd(4, (const uint16_t *)tile->scores[0] + key - start, stride);
        _tile_loadd(5, laid, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, laid + 1024, 64);
        _tile_dpbf16ps(1, 4, 6);
        if (halves < 2) continue;
        _tile_loadd(5, laid + 2048, 64);
        _tile_dpbf16ps(2, 4, 5);
        _tile_loadd(6, laid + 3072, 64);
        _tile_dpbf16ps(3, 4, 6);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int q = 0; q < num; q++)
        for (int half = 0; half < halves; half++) {
            vec low = *(vec *)(sums[2 * half] + q * LANES) * inverse[q];
            vec high = *(vec *)(sums[2 * half + 1] + q * LANES) * inverse[q];
            store_interleaved(tile->mixed[q] + offset + half * 32, low, high, 2);
        }
}

static void attend_by_tiles(const NAME(Tile) *tile, int num, const element *keys, const element *values, int64_t dim,
                            float scaling) {
    int64_t start, end, padded;
    float inverse[MOST_QUERIES];
    NAME(find_seen)(tile, num, &start, &end);
    configure_attention(num);
    start -= start % STEP;
    padded = end + (STEP - end % STEP) % STEP;
    score_by_tiles(tile, num, keys, values, dim, scaling, start, padded);
    for (int q = 0; q < num; q++) inverse[q] = 1.0f / NAME(weigh)(tile->scores[q], padded - start);
    for (int64_t offset = 0; offset < dim; offset += 64)
        mix_by_tiles(tile, num, inverse, values, start, end, dim, offset + 64 <= dim ? 2 : 1, offset);
}

/* Included by ops.c for bfloat16 on CPUs that multiply pairs of them (AVX-512 BF16), twice as much per instruction. */

#include <immintrin.h>

INLINE vec dot_pairs(vec sum, __m512i a, __m512i b) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

/* query . key of 16 keys. */
INLINE vec NAME(score_keys)(const element *query, const element *keys, int64_t dim) {
    vec sums[LANES] = {0};
    int64_t i = 0;
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        __m512i part = _mm512_loadu_si512(query + i);
#pragma GCC unroll 16
        for (int k = 0; k < LANES; k++)
            sums[k] = dot_pairs(sums[k], part, _mm512_loadu_si512(keys + k * dim + i));
    }
    if (i < dim) {
        __m512i part = _mm512_zextsi256_si512(_mm256_loadu_si256((const void *)(query + i)));
#pragma GCC unroll 16
        for (int k = 0; k < LANES; k++)
            sums[k] = dot_pairs(sums[k], part,
                                _mm512_zextsi256_si512(_mm256_loadu_si256((const void *)(keys + k * dim + i))));
    }
    return sum_each(sums);
}

/* The weights that `mix` reads: bfloat16, stored in the first half of the scores. */
INLINE void NAME(store_weights)(float *weights, int64_t i, vec v) { store_bfloat16((uint16_t *)weights + i, v); }

/* Stores 16 or 32 dimensions, which interleaving two keys had permuted. */
INLINE void store_interleaved(element *to, vec low, vec high, int parts) {
    STORE(to, SHUFFLE(low, high, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23));
    if (parts >= 2) STORE(to + LANES, SHUFFLE(low, high, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31));
}

/* The weighted sums of `parts` x 16 dimensions of the values, divided by the sums of weights. Two keys at a time. */
INLINE void NAME(mix)(float *const weights[], int num, const float *inverse, const element *values,
                      const element *next, int64_t num_keys, int64_t dim, int parts, element *const mixed[], int64_t offset) {
    vec sums[TILE][4] = {{{0}}};
    const int64_t halves = parts < 2 ? 1 : parts / 2;
    for (int64_t key = 0; key < num_keys; key += 2) {
        const element *value = values + key * dim + offset;
        PREFETCH_FAR(next + key * dim + offset);
        PREFETCH_FAR(next + (key + 1) * dim + offset);
        for (int half = 0; half < halves; half++) {
            const element *at = value + half * 2 * LANES;
            __m512i even, odd = _mm512_setzero_si512();
            if (parts < 2) {
                even = _mm512_zextsi256_si512(_mm256_loadu_si256((const void *)at));
                if (key + 1 < num_keys) odd = _mm512_zextsi256_si512(_mm256_loadu_si256((const void *)(at + dim)));
            } else {
                even = _mm512_loadu_si512(at);
                if (key + 1 < num_keys) odd = _mm512_loadu_si512(at + dim);
            }
            __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
            for (int q = 0; q < num; q++) {
                __m512i pair = _mm512_set1_epi32(((const int32_t *)weights[q])[key / 2]);
                sums[q][2 * half] = dot_pairs(sums[q][2 * half], pair, low);
                sums[q][2 * half + 1] = dot_pairs(sums[q][2 * half + 1], pair, high);
            }
        }
    }
    for (int q = 0; q < num; q++)
        for (int half = 0; half < halves; half++)
            store_interleaved(mixed[q] + offset + half * 2 * LANES, sums[q][2 * half] * inverse[q],
                              sums[q][2 * half + 1] * inverse[q], parts);
}

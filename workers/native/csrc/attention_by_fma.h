/* Included by ops.c once per type: scores and weighted sums in float32. */

/* query . key of 16 keys. */
INLINE vec NAME(score_keys)(const element *query, const element *keys, int64_t dim) {
    vec sums[LANES] = {0};
    for (int64_t i = 0; i < dim; i += LANES) {
        vec part = LOAD(query + i);
#pragma GCC unroll 16
        for (int k = 0; k < LANES; k++) sums[k] += part * LOAD(keys + k * dim + i);
    }
    return sum_each(sums);
}

/* The weights that `mix` reads. */
INLINE void NAME(store_weights)(float *weights, int64_t i, vec v) { *(vec *)(weights + i) = v; }

/* The weighted sums of `parts` x 16 dimensions of the values, divided by the sums of weights. */
INLINE void NAME(mix)(float *const weights[], int num, const float *inverse, const element *values,
                      const element *next, int64_t num_keys, int64_t dim, int parts, element *const mixed[], int64_t offset) {
    vec sums[TILE][4] = {{{0}}};
    for (int64_t key = 0; key < num_keys; key++) {
        const element *value = values + key * dim + offset;
        PREFETCH_FAR(next + key * dim + offset);
        for (int part = 0; part < parts; part++) {
            vec v = LOAD(value + part * LANES);
            for (int q = 0; q < num; q++) sums[q][part] += weights[q][key] * v;
        }
    }
    for (int q = 0; q < num; q++)
        for (int part = 0; part < parts; part++) STORE(mixed[q] + offset + part * LANES, sums[q][part] * inverse[q]);
}

/* Included by ops.c once per type: defines operations on `element`, with LOAD, STORE and ROUND. */

/* ---- RMSNorm, after a sum ---- */

INLINE float NAME(inverse_rms)(const element *x, int64_t width, double epsilon) {
    vec squares = {0};
    for (int64_t i = 0; i < width; i += LANES) {
        vec v = LOAD(x + i);
        squares += v * v;
    }
    return 1.0f / sqrtf(sum_lanes(squares) / (float)width + (float)epsilon);
}

INLINE void NAME(normalize)(const element *x, const element *weight, element *y, int64_t width, double epsilon) {
    vec scale = splat(NAME(inverse_rms)(x, width, epsilon));
    for (int64_t i = 0; i < width; i += LANES) STORE(y + i, LOAD(weight + i) * ROUND(LOAD(x + i) * scale));
}

static void NAME(norm_row)(const void *arguments, int64_t row, int thread) {
    const Norm *a = arguments;
    (void)thread;
    element *x = (element *)a->states + row * a->width;
    if (a->added) {
        const element *added = (const element *)a->added + row * a->width;
        for (int64_t i = 0; i < a->width; i += LANES) STORE(x + i, LOAD(x + i) + LOAD(added + i));
    }
    NAME(normalize)(x, a->weight, (element *)a->normed + row * a->width, a->width, a->epsilon);
}

void NAME(rms_norm)(const Norm *a) {
    share(NAME(norm_row), a, a->rows, a->rows * a->width < MIN_SHARED ? 1 : a->threads);
}

/* ---- SiLU of the gates, times the up projections ---- */

static void NAME(gate_row)(const void *arguments, int64_t row, int thread) {
    const Gate *a = arguments;
    (void)thread;
    const element *gates = (const element *)a->gated + 2 * row * a->width, *ups = gates + a->width;
    element *y = (element *)a->product + row * a->width;
    for (int64_t i = 0; i < a->width; i += LANES) {
        vec g = LOAD(gates + i);
        STORE(y + i, ROUND(g / (1.0f + exp_vec(-g))) * LOAD(ups + i));
    }
}

void NAME(silu_and_multiply)(const Gate *a) {
    share(NAME(gate_row), a, a->rows, a->rows * a->width < MIN_SHARED ? 1 : a->threads);
}

/* ---- Rotary embeddings, stored in the cache ---- */

INLINE void NAME(rotate)(const element *x, const element *cosine, const element *sine, element *y, int64_t dim) {
    int64_t half = dim / 2;
    for (int64_t i = 0; i < half; i += LANES) {
        vec first = LOAD(x + i), second = LOAD(x + half + i);
        STORE(y + i, ROUND(first * LOAD(cosine + i)) + ROUND(-second * LOAD(sine + i)));
        STORE(y + half + i, ROUND(second * LOAD(cosine + half + i)) + ROUND(first * LOAD(sine + half + i)));
    }
}

static void NAME(rotate_token)(const void *arguments, int64_t index, int thread) {
    const Rotation *a = arguments;
    (void)thread;
    const int64_t dim = a->dim, token = a->first + index;
    /* The cell of the token's first head in its slot. */
    const int64_t cell = a->places[index] * a->kv_heads * a->length + a->positions[index];
    const element *x = (const element *)a->joined + token * (a->heads + 2 * a->kv_heads) * dim;
    const element *cosine = (const element *)a->cosine + token * dim;
    const element *sine = (const element *)a->sine + token * dim;
    element normed[dim];
    for (int64_t head = 0; head < a->heads + a->kv_heads; head++, x += dim) {
        int is_key = head >= a->heads;
        const element *weight = is_key ? a->key_norm : a->query_norm, *given = x;
        if (weight) {
            NAME(normalize)(x, weight, normed, dim, a->epsilon);
            given = normed;
        }
        element *y = is_key ? (element *)a->keys + (cell + (head - a->heads) * a->length) * dim
                            : (element *)a->queries + (token * a->heads + head) * dim;
        NAME(rotate)(given, cosine, sine, y, dim);
    }
    for (int64_t head = 0; head < a->kv_heads; head++, x += dim)
        __builtin_memcpy((element *)a->values + (cell + head * a->length) * dim, x, dim * sizeof(element));
}

void NAME(rotate_and_store)(const Rotation *a) {
    int64_t size = a->tokens * (a->heads + 2 * a->kv_heads) * a->dim;
    share(NAME(rotate_token), a, a->tokens, size < MIN_SHARED ? 1 : a->threads);
}

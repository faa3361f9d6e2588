/* Included by ops.c once per type: attention of queries over the keys and values of their slots. */

/* Queries that share a key-value head, and the range of keys that each of them sees: [first, end). */
typedef struct {
    const element *query[MOST_QUERIES];
    float *scores[MOST_QUERIES];
    element *mixed[MOST_QUERIES];
    int64_t first[MOST_QUERIES], end[MOST_QUERIES];
    /* Keys to prefetch: those that are read next. */
    const element *next;
} NAME(Tile);

/* The range [start, end) of keys that any of the queries sees. */
INLINE void NAME(find_seen)(const NAME(Tile) *tile, int num, int64_t *start, int64_t *end) {
    *start = tile->first[0], *end = tile->end[0];
    for (int q = 1; q < num; q++) {
        *start = tile->first[q] < *start ? tile->first[q] : *start;
        *end = tile->end[q] > *end ? tile->end[q] : *end;
    }
}

/* A query's scores of 16 keys, with -inf for keys that it does not see. */
INLINE vec NAME(hide)(const NAME(Tile) *tile, int q, int64_t key, vec scores) {
    ivec at = IOTA + (int32_t)key;
    ivec is_seen = (at >= (int32_t)tile->first[q]) & (at < (int32_t)tile->end[q]);
    return select_vec(is_seen, scores, splat(-INFINITY));
}

/* Prefetches the vectors of 16 keys into a larger, more distant cache. */
INLINE void NAME(fetch)(const element *vectors, int64_t dim) {
    for (int64_t i = 0; i < LANES * dim; i += 64 / sizeof(element)) PREFETCH_FAR(vectors + i);
}

/* The scores of all keys from `start`, a multiple of 16, with -inf for unseen keys. Meanwhile it prefetches the
 * values, and keys ahead up to the end: for a short sequence, further ones would double the memory traffic. */
INLINE void NAME(score)(const NAME(Tile) *tile, int num, const element *keys, const element *values, int64_t dim,
                        float scaling, int64_t start, int64_t end) {
    for (int64_t key = start; key < end; key += LANES) {
        if (key + AHEAD < end)
            for (int64_t i = 0; i < LANES * dim; i += 64 / sizeof(element)) PREFETCH(keys + (key + AHEAD) * dim + i);
        NAME(fetch)(values + key * dim, dim);
        for (int q = 0; q < num; q++) {
            vec scores = NAME(score_keys)(tile->query[q], keys + key * dim, dim) * scaling;
            *(vec *)(tile->scores[q] + key - start) = NAME(hide)(tile, q, key, scores);
        }
    }
}

/* Replaces scores by weights e^(score - largest). Returns their sum. */
INLINE float NAME(weigh)(float *scores, int64_t num) {
    vec most = splat(-INFINITY), sum = {0};
    for (int64_t i = 0; i < num; i += LANES) most = max_vec(most, *(const vec *)(scores + i));
    vec largest = splat(max_lanes(most));
    for (int64_t i = 0; i < num; i += LANES) {
        vec weights = exp_vec(*(const vec *)(scores + i) - largest);
        sum += weights;
        NAME(store_weights)(scores, i, weights);
    }
    return sum_lanes(sum);
}

INLINE void NAME(attend_queries)(const NAME(Tile) *tile, int num, const element *keys, const element *values,
                                 int64_t dim, float scaling) {
    int64_t start, end;
    float inverse[TILE];
    NAME(find_seen)(tile, num, &start, &end);
    start -= start % LANES;
    NAME(score)(tile, num, keys, values, dim, scaling, start, end);
    for (int q = 0; q < num; q++) inverse[q] = 1.0f / NAME(weigh)(tile->scores[q], end - start);
    const element *from = values + start * dim, *next = tile->next + start * dim;
    int64_t offset = 0;
    for (; offset + 4 * LANES <= dim; offset += 4 * LANES)
        NAME(mix)(tile->scores, num, inverse, from, next, end - start, dim, 4, tile->mixed, offset);
    if (offset + 2 * LANES <= dim) {
        NAME(mix)(tile->scores, num, inverse, from, next, end - start, dim, 2, tile->mixed, offset);
        offset += 2 * LANES;
    }
    if (offset < dim) NAME(mix)(tile->scores, num, inverse, from, next, end - start, dim, 1, tile->mixed, offset);
}

/* One call per size, so that the compiler keeps the sums in registers. */
static void NAME(attend_tile)(const NAME(Tile) *tile, int num, const element *keys, const element *values, int64_t dim,
                              float scaling) {
    switch (num) {
        case 1: NAME(attend_queries)(tile, 1, keys, values, dim, scaling); break;
        case 2: NAME(attend_queries)(tile, 2, keys, values, dim, scaling); break;
        case 3: NAME(attend_queries)(tile, 3, keys, values, dim, scaling); break;
        default: NAME(attend_queries)(tile, TILE, keys, values, dim, scaling);
    }
}

#ifdef ATTENDS_BY_TILES
#include "attention_by_tiles.h"
#endif

/* Query vectors that are attended together. AMX tiles take more than TILE; they pay off if at least a few heads share
 * their keys. All queries of a model are attended the same way. */
INLINE int64_t NAME(queries_at_once)(const Attention *a) {
#ifdef ATTENDS_BY_TILES
    const int fits = a->length % STEP == 0 && a->dim % 32 == 0 && a->dim <= MOST_TILED_DIM;
    if (fits && a->heads >= LEAST_SHARING * a->kv_heads && may_use_tiles()) return MOST_QUERIES;
#endif
    (void)a;
    return TILE;
}

/* Attends the query vectors that share a key-value head: [from, end) of tokens x sharing heads. */
INLINE void NAME(attend_head)(const Attention *a, const int64_t *row, int64_t kv_head, int64_t from, int64_t end,
                              float *workspace) {
    const int64_t dim = a->dim, sharing = a->heads / a->kv_heads, most = NAME(queries_at_once)(a);
    const element *keys = (const element *)a->keys + (row[2] * a->kv_heads + kv_head) * a->length * dim;
    const element *values = (const element *)a->values + (row[2] * a->kv_heads + kv_head) * a->length * dim;
    while (from < end) {
        NAME(Tile) tile = {.next = keys + a->length * dim};
        int num = (int)(end - from < most ? end - from : most);
        for (int q = 0; q < num; q++, from++) {
            int64_t token = from / sharing, head = kv_head * sharing + from % sharing;
            tile.query[q] = (const element *)a->queries + head * a->query_head_stride +
                            (row[0] + token) * a->query_token_stride;
            tile.scores[q] = workspace + q * (a->length + LANES);
            tile.mixed[q] = (element *)a->mixed + ((row[0] + token) * a->heads + head) * dim;
            tile.end[q] = row[3] + token + 1;
            tile.first[q] = a->window && tile.end[q] > a->window ? tile.end[q] - a->window : 0;
        }
#ifdef ATTENDS_BY_TILES
        if (most > TILE) attend_by_tiles(&tile, num, keys, values, dim, (float)a->scaling);
        else
#endif
            NAME(attend_tile)(&tile, num, keys, values, dim, (float)a->scaling);
    }
#ifdef ATTENDS_BY_TILES
    if (most > TILE) _tile_release();
#endif
}

/* Items per row: one per key-value head, or one in total if that occupies all threads. */
INLINE int64_t NAME(items_of_piece)(const Attention *a) {
    return a->num_rows < 4 * a->threads ? a->kv_heads : 1;
}

/* Items are the key-value heads of rows. A row with many tokens has an item for each PIECE of them. */
static void NAME(attend_item)(const void *arguments, int64_t item, int thread) {
    const Attention *a = arguments;
    const int64_t sharing = a->heads / a->kv_heads, parts = NAME(items_of_piece)(a), heads = a->kv_heads / parts;
    int64_t piece = item / parts, kv_head = item % parts * heads;
    const int64_t *row = a->rows;
    for (; piece >= PIECES(row[1]); row += 4) piece -= PIECES(row[1]);
    int64_t first = piece * PIECE, end = first + PIECE < row[1] ? first + PIECE : row[1];
    for (int64_t i = 0; i < heads; i++)
        NAME(attend_head)(a, row, kv_head + i, first * sharing, end * sharing,
                          a->workspace + thread * a->workspace_stride);
}

void NAME(attend)(const Attention *a) {
    int64_t pieces = 0;
    for (int64_t row = 0; row < a->num_rows; row++) pieces += PIECES(a->rows[4 * row + 1]);
    share(NAME(attend_item), a, pieces * NAME(items_of_piece)(a), a->threads);
}

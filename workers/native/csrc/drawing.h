/* Included by ops.c once per type: draws a token from a row of logits. See workers/native/draw.py for the rules. */

/* A row of logits. Some tokens may be barred. */
typedef struct {
    const element *logits;
    const uint8_t *mask;
    int64_t width;
    /* The largest logit, and the factor of differences from it (1 / temperature). */
    float largest, coldness;
    float min_p;
    /* The weight of the most likely token. */
    float most;
    /* Buckets per unit of depth. */
    float buckets;
} NAME(Row);

/* The model's logits from index `i`, a multiple of LANES. Minus infinity beyond the row. */
INLINE vec NAME(own_logits)(const NAME(Row) *row, int64_t i) {
    element last[LANES] = {0};
    if (i + LANES <= row->width) return LOAD(row->logits + i);
    __builtin_memcpy(last, row->logits + i, (row->width - i) * sizeof(element));
    return select_vec(IOTA < (int32_t)(row->width - i), LOAD(last), splat(-INFINITY));
}

/* The same with minus infinity for barred tokens. */
INLINE vec NAME(allowed)(const NAME(Row) *row, int64_t i) {
    vec logits = NAME(own_logits)(row, i);
    return row->mask ? select_vec(mask_lanes(row->mask, i), logits, splat(-INFINITY)) : logits;
}

/* The first token with the largest logit, or UNUSABLE. Sets the row's largest. */
static int64_t NAME(find_likeliest)(NAME(Row) *row) {
    vec most = splat(-INFINITY);
    ivec at = {0}, is_nan = {0};
    for (int64_t i = 0; i < row->width; i += LANES) {
        vec logits = NAME(own_logits)(row, i);
        is_nan |= logits != logits;
        if (row->mask) logits = select_vec(mask_lanes(row->mask, i), logits, splat(-INFINITY));
        ivec is_more = logits > most;
        most = select_vec(is_more, logits, most);
        at = (is_more & (IOTA + (int32_t)i)) | (~is_more & at);
    }
    row->largest = max_lanes(most);
    if (any_lane(is_nan) || row->largest == INFINITY || (!row->mask && row->largest == -INFINITY)) return UNUSABLE;
    int64_t best = row->width;
    for (int lane = 0; lane < LANES; lane++)
        if (most[lane] == row->largest && at[lane] < best) best = at[lane];
    return best;
}

/* Distances from the largest logit, in units of the temperature. */
INLINE vec NAME(depth)(const NAME(Row) *row, vec logits) { return (row->largest - logits) * row->coldness; }

/* Weights proportional to e^-depth. 0 below min_p and for NaN. */
INLINE vec NAME(shares)(const NAME(Row) *row, vec depth) {
    vec shares = exp_vec(-depth);
    ivec is_none = (shares < row->min_p) | (depth != depth);
    return select_vec(is_none, splat(0), shares * row->most);
}

/* The same as integers. */
INLINE long_vec NAME(weights)(const NAME(Row) *row, vec depth) {
    return __builtin_convertvector(NAME(shares)(row, depth), long_vec);
}

/* ---- Drawing from all tokens, in order of ids ---- */

static int64_t NAME(draw_whole)(const NAME(Row) *row, int64_t best, double uniform) {
    const int64_t num_blocks = (row->width + BLOCK - 1) / BLOCK;
    int64_t sums[num_blocks], total = 0, reached = 0, block = 0;
    for (int64_t b = 0; b < num_blocks; b++) {
        long_vec sum = {0};
        for (int64_t i = b * BLOCK; i < row->width && i < (b + 1) * BLOCK; i += LANES)
            sum += NAME(weights)(row, NAME(depth)(row, NAME(allowed)(row, i)));
        sums[b] = sum_long(sum);
        total += sums[b];
    }
    if (total == 0) return best;
    const int64_t threshold = share_of(total, uniform);
    while (reached + sums[block] <= threshold) reached += sums[block++];
    for (int64_t i = block * BLOCK; i < row->width; i += LANES) {
        long_vec weights = NAME(weights)(row, NAME(depth)(row, NAME(allowed)(row, i)));
        for (int lane = 0; lane < LANES; lane++)
            if ((reached += weights[lane]) > threshold) return i + lane;
    }
    return best; /* unreachable: the same weights have the same sum */
}

/* ---- Drawing in order of probability, ties by id. Only the bucket that contains the answer is sorted ---- */

/* The bucket of a depth. The last one for tokens without weight and for NaN. */
INLINE ivec NAME(bucket)(const NAME(Row) *row, vec depth) {
    vec at = depth * row->buckets;
    return __builtin_convertvector(select_vec(at < (float)BUCKETS, at, splat(BUCKETS - 1)), ivec);
}

static void NAME(fill)(const NAME(Row) *row, Histogram *histogram) {
    for (int64_t i = 0; i < row->width; i += LANES) {
        vec depth = NAME(depth)(row, NAME(allowed)(row, i)), shares = NAME(shares)(row, depth);
        if (!any_lane(shares >= 1)) continue;
        int64_t weights[LANES];
        int32_t buckets[LANES];
        *(long_vec *)weights = __builtin_convertvector(shares, long_vec);
        *(ivec *)buckets = NAME(bucket)(row, depth);
        for (int lane = 0; lane < LANES; lane++) {
            histogram->counts[buckets[lane]] += weights[lane] > 0;
            histogram->sums[buckets[lane]] += weights[lane];
        }
    }
}

/* Sorts the tokens of a bucket that have any weight. Returns their number. */
static int64_t NAME(rank)(const NAME(Row) *row, int64_t wanted, Ranked *ranked) {
    int64_t count = 0;
    for (int64_t i = 0; i < row->width; i += LANES) {
        vec logits = NAME(allowed)(row, i), depth = NAME(depth)(row, logits);
        ivec is_wanted = NAME(bucket)(row, depth) == (int32_t)wanted;
        if (!any_lane(is_wanted)) continue;
        long_vec weights = NAME(weights)(row, depth);
        for (int lane = 0; lane < LANES; lane++)
            if (is_wanted[lane] && weights[lane] > 0)
                ranked[count++] = (Ranked){order_key(logits[lane], i + lane), weights[lane]};
    }
    qsort(ranked, count, sizeof(Ranked), compare_ranked);
    return count;
}

/* The total weight of the `number` most likely tokens. */
static int64_t NAME(weigh_likeliest)(const NAME(Row) *row, const Histogram *histogram, int64_t number, Ranked *ranked) {
    int64_t sum = 0, bucket = 0;
    for (; bucket < BUCKETS && number >= histogram->counts[bucket]; bucket++) {
        number -= histogram->counts[bucket];
        sum += histogram->sums[bucket];
    }
    if (bucket < BUCKETS && number > 0) {
        NAME(rank)(row, bucket, ranked);
        for (int64_t i = 0; i < number; i++) sum += ranked[i].weight;
    }
    return sum;
}

/* The first token, in order of probability, at which the cumulative weight exceeds `weight`, and that cumulative
 * weight. `weight` must be less than the total. */
static int64_t NAME(token_beyond)(const NAME(Row) *row, const Histogram *histogram, int64_t weight, int64_t *reached,
                                  Ranked *ranked) {
    int64_t bucket = 0, i = 0;
    for (*reached = 0; *reached + histogram->sums[bucket] <= weight; bucket++) *reached += histogram->sums[bucket];
    int64_t last = NAME(rank)(row, bucket, ranked) - 1;
    while ((*reached += ranked[i].weight) <= weight && i < last) i++;
    return (int64_t)(uint32_t)ranked[i].key;
}

/* Draws from the `top_k` most likely tokens (0: all), reduced to the smallest set whose share reaches `top_p`. */
static int64_t NAME(draw_cut)(const NAME(Row) *row, int64_t best, int64_t top_k, double top_p, double uniform,
                              Ranked *ranked) {
    Histogram histogram = {0};
    int64_t kept, reached;
    NAME(fill)(row, &histogram);
    int64_t total = NAME(weigh_likeliest)(row, &histogram, top_k ? top_k : row->width, ranked);
    if (total == 0) return best;
    NAME(token_beyond)(row, &histogram, (int64_t)ceil(top_p * (double)total) - 1, &kept, ranked);
    return NAME(token_beyond)(row, &histogram, share_of(kept, uniform), &reached, ranked);
}

static void NAME(draw_row)(const void *arguments, int64_t index, int thread) {
    const Drawing *a = arguments;
    NAME(Row) row = {
        .logits = (const element *)a->logits + index * a->width,
        .mask = a->masks && a->is_barred[index] ? a->masks + index * a->mask_width : 0,
        .width = a->width,
        .coldness = 1 / a->temperatures[index],
        .min_p = a->min_p[index],
        .most = (float)((int64_t)1 << a->bits),
        .buckets = (float)(BUCKETS / (a->bits * 0.6931471805599453)),
    };
    int64_t drawn = NAME(find_likeliest)(&row);
    if (a->temperatures[index] > 0 && drawn != UNUSABLE) {
        int is_cut = a->top_k[index] > 0 || a->top_p[index] < 1;
        drawn = is_cut ? NAME(draw_cut)(&row, drawn, a->top_k[index], a->top_p[index], a->uniform[index],
                                        a->workspace + thread * a->width)
                       : NAME(draw_whole)(&row, drawn, a->uniform[index]);
    }
    a->drawn[index] = drawn;
}

void NAME(draw)(const Drawing *a) {
    share(NAME(draw_row), a, a->rows, a->rows * a->width < MIN_SHARED ? 1 : a->threads);
}

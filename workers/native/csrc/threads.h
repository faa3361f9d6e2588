/* Included by ops.c: threads that share the items of an operation.
 *
 * They are either torch's own pool, which waits until each of its threads has run, or helper threads, which take the
 * remaining items when they arrive. If another process has a helper's core, the caller continues alone. Since an
 * operation takes only microseconds, a helper polls for work while steps follow each other closely, and then sleeps.
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

/* Number of polls, about 40 ns each, before an idle helper sleeps. */
#define LOOKS 5000
/* An idle helper yields its core after the first poll, and then once per this many polls. */
#define LOOKS_OF_TURN 1000
/* Rounds that the caller waits for a working helper before it yields its core. */
#define PATIENCE 2000
#define MOST_HELPERS 254
/* Bytes of a cache line. */
#define LINE 64
/* An item that takes this long belongs to a helper that has lost its core to another process for a while. */
#define LONG_NS 1500000
/* If a yield takes less time than this, no other thread wanted the core. */
#define YIELD_NS 2000
/* How long such a helper pauses. The time doubles at each loss, until it has run well for a while. */
#define LEAST_ABSENCE_NS 20000000
#define MOST_ABSENCE_NS 640000000
#define WELL_NS 1000000000

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

typedef void (*Item)(const void *arguments, int64_t index, int thread);

static struct {
    /* The current operation. It is written while no helper has an item, and is not on a cache line that helpers
     * poll. */
    Item item;
    const void *arguments;
    uint32_t num_items;
    /* The operation's number, the threads that may share it, and the items left, in one word. A helper therefore
     * cannot take an item of another operation than the one it saw. */
    _Alignas(LINE) _Atomic uint64_t offer;
    _Alignas(LINE) _Atomic uint32_t num_done;
    _Alignas(LINE) _Atomic int is_busy, num_asleep;
    /* Started threads, and how many of them operations are shared with. */
    int num_started, num_helpers;
    /* Whether this is a forked process. It computes alone until it starts its own helpers. */
    int is_child;
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .has_work = PTHREAD_COND_INITIALIZER};

#define OFFER(number, threads, left) ((uint64_t)(number) << 40 | (uint64_t)(threads) << 32 | (left))
#define LEFT(offer) ((uint32_t)(offer))
#define THREADS(offer) ((int)((offer) >> 32 & 0xff))

/* Takes and runs one item. Returns whether there was one for this thread. */
INLINE int take_item(int thread) {
    uint64_t offer = atomic_load_explicit(&pool.offer, memory_order_acquire);
    do
        if (LEFT(offer) == 0 || thread >= THREADS(offer)) return 0;
    while (!atomic_compare_exchange_weak_explicit(&pool.offer, &offer, offer - 1, memory_order_acquire,
                                                  memory_order_acquire));
    pool.item(pool.arguments, pool.num_items - LEFT(offer), thread);
    atomic_fetch_add_explicit(&pool.num_done, 1, memory_order_release);
    return 1;
}

INLINE int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* How often this thread has lost its core to another thread. */
static int64_t num_losses(void) {
#ifdef RUSAGE_THREAD
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) == 0) return usage.ru_nivcsw;
#endif
    return 0;
}

static void sleep_until_wanted(void) {
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.num_asleep, 1);
    while (LEFT(atomic_load(&pool.offer)) == 0) pthread_cond_wait(&pool.has_work, &pool.mutex);
    atomic_fetch_sub(&pool.num_asleep, 1);
    pthread_mutex_unlock(&pool.mutex);
}

/* A helper that loses its core while it holds an item delays the caller. It then pauses, longer each time. */
static void *help(void *thread) {
    int64_t absence = LEAST_ABSENCE_NS, losses = 0, back_at = 0;
    for (int looks = 0;;) {
        int64_t begun = now_ns();
        if (take_item((int)(intptr_t)thread)) {
            int64_t ended = now_ns(), before = losses;
            looks = 0;
            if (ended - begun < LONG_NS || (losses = num_losses()) == before) continue;
            absence = ended - back_at > WELL_NS ? LEAST_ABSENCE_NS : 2 * absence;
            if (absence > MOST_ABSENCE_NS) absence = MOST_ABSENCE_NS;
            nanosleep(&(struct timespec){0, absence}, NULL);
            losses = num_losses();
            back_at = now_ns();
        } else if (looks++ % LOOKS_OF_TURN == 0) {
            /* Lets a thread that waits for this core run now, and not during the next item, when the caller would
             * have to wait as well. */
            sched_yield();
            if (now_ns() - begun > YIELD_NS) losses = num_losses();
        } else if (looks < LOOKS) {
            PAUSE();
        } else {
            sleep_until_wanted();
            looks = 0;
        }
    }
    return NULL;
}

static void share_with_helpers(Item item, const void *arguments, int64_t num_items, int64_t threads) {
    uint64_t number = (atomic_load(&pool.offer) >> 40) + 1;
    pool.item = item;
    pool.arguments = arguments;
    pool.num_items = (uint32_t)num_items;
    atomic_store(&pool.num_done, 0);
    atomic_store(&pool.offer, OFFER(number, threads, num_items));
    if (atomic_load(&pool.num_asleep)) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.has_work);
        pthread_mutex_unlock(&pool.mutex);
    }
    while (take_item(0)) {}
    for (int rounds = 0; atomic_load_explicit(&pool.num_done, memory_order_acquire) < num_items; rounds++)
        if (rounds < PATIENCE) PAUSE();
        else sched_yield();
}

/* A forked child has none of its parent's threads, and none of torch's pool, for which it would wait. If the fork was
 * in the middle of another thread's operation, that operation's items are not for helpers that the child starts. */
static void forget_helpers(void) {
    pool.is_child = 1;
    atomic_store(&pool.offer, 0);
    atomic_store(&pool.num_done, 0);
    pool.num_started = pool.num_helpers = 0;
    atomic_store(&pool.num_asleep, 0);
    atomic_store(&pool.is_busy, 0);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.has_work, NULL);
}

/* Uses `number` helpers from now on, at most MOST_HELPERS. With 0, operations are shared with torch's pool. */
void use_helpers(int64_t number) {
    static int is_told;
    sigset_t all, before;
    if (number > MOST_HELPERS) number = MOST_HELPERS;
    if (!is_told) is_told = pthread_atfork(NULL, NULL, forget_helpers) == 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* helpers must not receive signals */
    while (pool.num_started < number) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, (void *)(intptr_t)(pool.num_started + 1)) != 0) break;
        pthread_detach(thread);
        pool.num_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pool.num_helpers = number < pool.num_started ? (int)number : pool.num_started;
}

int64_t num_helpers(void) { return pool.num_helpers; }

/* ---- torch's pool, through the entry points of GNU OpenMP, which torch loads ---- */

extern void GOMP_parallel(void (*work)(void *), void *data, unsigned num_threads, unsigned flags)
    __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));

typedef struct {
    Item item;
    const void *arguments;
    int64_t num_items, next;
} Work;

static void take_items(void *data) {
    Work *work = data;
    int thread = omp_get_thread_num();
    int64_t index;
    while ((index = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->num_items)
        work->item(work->arguments, index, thread);
}

/* Calls `item` for each index, on up to `threads` threads. */
static void share(Item item, const void *arguments, int64_t num_items, int64_t threads) {
    if (threads > 1 && num_items > 1 && num_items <= UINT32_MAX) {
        if (pool.num_helpers && !atomic_exchange(&pool.is_busy, 1)) {
            share_with_helpers(item, arguments, num_items, threads > MOST_HELPERS ? MOST_HELPERS + 1 : threads);
            atomic_store(&pool.is_busy, 0);
            return;
        }
        if (!pool.num_helpers && !pool.is_child && GOMP_parallel && omp_get_thread_num) {
            Work work = {item, arguments, num_items, 0};
            GOMP_parallel(take_items, &work, (unsigned)(threads < num_items ? threads : num_items), 0);
            return;
        }
    }
    for (int64_t index = 0; index < num_items; index++) item(arguments, index, 0);
}

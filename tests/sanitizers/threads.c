/* Threads of workers/native/csrc/threads.h under ThreadSanitizer, and then under ASan: `make check-native`.
 *
 * Every operation adds 1 to each of its counters, without atomics. A counter that is not 1, or that two threads wrote
 * with nothing in between, shows an item that was lost, run twice or taken from another operation.
 */

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ops.c"

#define CALLERS 4
#define ITEMS 40
#define ROUNDS 3000

#define REQUIRE(condition)                                                        \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "threads.c:%d: not so: %s\n", __LINE__, #condition);  \
            _exit(1);                                                             \
        }                                                                         \
    } while (0)

typedef struct {
    int64_t counters[ITEMS];
    int64_t threads;
    int is_nested;
} Counting;

static void count(const void *arguments, int64_t index, int thread) {
    Counting *counting = (Counting *)arguments;
    REQUIRE(thread >= 0 && thread < counting->threads);
    if (counting->is_nested) {
        Counting inner = {.threads = counting->threads};
        share(count, &inner, 3, inner.threads);
        for (int i = 0; i < 3; i++) REQUIRE(inner.counters[i] == 1);
    }
    counting->counters[index]++;
}

static void run_once(int64_t num_items, int64_t threads, int is_nested) {
    Counting counting = {.threads = threads, .is_nested = is_nested};
    share(count, &counting, num_items, threads);
    for (int64_t i = 0; i < ITEMS; i++) REQUIRE(counting.counters[i] == (i < num_items));
}

static void *call_often(void *unused) {
    for (int round = 0; round < ROUNDS; round++)
        run_once(round % (ITEMS + 1), 1 + round % 7, round % 10 == 0);
    return unused;
}

/* Several callers at once: one of them has the helpers, the others compute alone. */
static void call_from_many(void) {
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) REQUIRE(pthread_create(&callers[i], NULL, call_often, NULL) == 0);
    for (int i = 0; i < CALLERS; i++) REQUIRE(pthread_join(callers[i], NULL) == 0);
}

/* Helpers fall asleep between two operations. */
static void wake_sleepers(void) {
    for (int round = 0; round < 20; round++) {
        for (int looks = 0; looks < 1000 && atomic_load(&pool.num_asleep) < pool.num_helpers; looks++) usleep(1000);
        run_once(ITEMS, 7, 0);
    }
}

static void *stop_and_start(void *unused) {
    for (int round = 0; round < 50; round++) {
        use_helpers(round % 4);
        run_once(ITEMS, 4, 0);
    }
    return unused;
}

/* A child forked in the middle of another thread's operations computes alone, and then with helpers of its own. */
static void fork_while_calling(void) {
    pthread_t caller;
    REQUIRE(pthread_create(&caller, NULL, call_often, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        int status;
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            run_once(ITEMS, 3, 0);
#ifndef __SANITIZE_THREAD__ /* which does not know the threads of such a child */
            use_helpers(2);
#endif
            for (int round = 0; round < 100; round++) run_once(ITEMS, 3, 0);
            _exit(0);
        }
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
    REQUIRE(pthread_join(caller, NULL) == 0);
}

int main(void) {
    use_helpers(0);
    run_once(ITEMS, 4, 0);
    use_helpers(3);
    call_often(NULL);
    call_from_many();
    wake_sleepers();
    fork_while_calling();
    stop_and_start(NULL);
    use_helpers(40);
    call_from_many();
    puts("threads: no race, no item lost or run twice");
    return 0;
}

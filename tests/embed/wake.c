/* wake.c: a sleeping helper comes to every job that has work for it. Linked with libxent.a, whose inner functions are hidden
 * but there.
 *
 *   wake JOBS      prints how many had one
 *
 * Before each job all helpers have gone to sleep. The first unit takes longer than callers work before they wake anyone; the
 * second, the caller's too, waits until a helper has begun the third. How busy the machine is decides how soon that is, and
 * not whether; with a wake-up that went to somebody else it never is, since there is no other. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "threads.h"
#include "xent.h"

enum { THREADS = 2, UNITS = 3, PATIENCE = 20 };

static void sleep_for(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

typedef struct waiting {
    pthread_t caller;
    atomic_int helped;
    double waited;
} waiting;

static void unit(void *ctx, ptrdiff_t number) {
    waiting *w = ctx;
    if (!pthread_equal(pthread_self(), w->caller)) {
        atomic_store(&w->helped, 1);
        return;
    }
    if (number == 0) {
        sleep_for(1e-3);
        return;
    }
    for (; !atomic_load(&w->helped) && w->waited < PATIENCE; w->waited += 1e-3)
        sleep_for(1e-3);
}

int main(int argc, char **argv) {
    const int jobs = argc > 1 ? atoi(argv[1]) : 40;
    if (!xent_has_openmp()) {
        fprintf(stderr, "wake: this libxent has no helpers\n");
        return 1;
    }
    for (int j = 0; j < jobs; j++) {
        waiting w = {.caller = pthread_self()};
        xent_parallel_for(UNITS, THREADS, unit, &w);
        if (!atomic_load(&w.helped)) {
            fprintf(stderr, "wake: nobody came to job %d in %d seconds\n", j, PATIENCE);
            return 1;
        }
        sleep_for(5e-3);
    }
    printf("%d jobs, each with a helper\n", jobs);
    return 0;
}

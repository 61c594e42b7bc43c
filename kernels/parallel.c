/* parallel.c: independent units of work to threads, and fork. Which thread does a unit never changes a result. */
#include <stdatomic.h>

#include "internal.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define HAVE_ATFORK 1
#else
#define HAVE_ATFORK 0
#endif

/* Weighted elements below which a call stays serial, about 10 us of work. Measured on two Zen 5 cores: with the workers still
 * spinning from the last call a second thread pays from 3 us on, with them asleep from about 100 us. */
#define SERIAL_BELOW 32768.0

static atomic_int asked_for; /* xent_set_num_threads; 0 follows OpenMP */

xent_status xent_set_num_threads(int n) {
    if (n < 0)
        return XENT_ERR_OPTION;
    atomic_store(&asked_for, n);
    return XENT_OK;
}

int xent_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int xent_get_num_threads(void) {
#ifdef _OPENMP
    int n = atomic_load(&asked_for);
    return n > 0 ? n : omp_get_max_threads();
#else
    return 1;
#endif
}

int xent_threads_for(double elements, int most) {
    int n;
    if (elements < SERIAL_BELOW || most == 1)
        return 1;
    n = xent_get_num_threads();
#ifdef _OPENMP
    if (omp_in_parallel()) /* the caller already uses the cores */
        return 1;
#endif
    return most > 0 && most < n ? most : n;
}

#if defined(_OPENMP) && HAVE_ATFORK
/* libgomp's idle workers do not exist in a forked child, which would wait for them for ever. Before the fork they are
 * therefore sent home; parent and child start new ones when they need them. */
static void before_fork(void) {
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
    if (!omp_in_parallel())
        omp_pause_resource_all(omp_pause_hard);
#endif
}

static void register_atfork(void) {
    pthread_atfork(before_fork, NULL, NULL);
}
#endif

void xent_parallel_for(ptrdiff_t units, int threads, unit_fn work, void *ctx) {
    if (units < threads)
        threads = (int)units;
    /* `if(0)` on the pragma would still cost half a microsecond: branch here instead */
    if (threads <= 1) {
        for (ptrdiff_t u = 0; u < units; u++)
            work(ctx, u);
        return;
    }
#ifdef _OPENMP
#if HAVE_ATFORK
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_atfork);
#endif
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (ptrdiff_t u = 0; u < units; u++)
        work(ctx, u);
#endif
}

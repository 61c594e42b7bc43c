/* threads.c: independent units of work to threads, and fork. Which thread does a unit never changes a result.
 *
 * The threads are OpenMP's, but the caller opens no region of its own: the end of a region waits for every thread, also
 * for one that has not begun because another process has its processor, and while libgomp spins there, the two may share
 * the caller's. With one of two cores busy up to all calls stalled, for 4 to 12 ms. Instead one resident region, opened
 * by a thread of ours, holds helpers. A caller lists its job and starts on the units; helpers that come take units too.
 * Once all are taken the caller strikes the job off the list and waits for the units in progress, not for threads: calls
 * of three times their serial time are then as rare, 0 to 2 %, as among serial calls on the same busy machine. Where
 * every processor is busy, those that come some milliseconds apart still have 5 to 21 % of them. */
#define _POSIX_C_SOURCE 200809L
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "xent.h"
#include "threads.h"

#if defined(_OPENMP) && (defined(__unix__) || defined(__APPLE__))
#define HAVE_TEAM 1
#include <fenv.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#else
#define HAVE_TEAM 0
#endif

/* Weighted elements below which a call stays serial, about 10 us of work. Measured on two Zen 5 cores: with helpers that
 * still spin two threads take 0.73 of the serial time at 4 us of work, 0.62 at 8 us and 0.54 at 30 us; with helpers asleep
 * sharing costs the caller some 2 us, for locks that are no longer in its cache. */
#define SERIAL_BELOW 65536.0
enum {
    SPIN_NS = 50000, /* helpers look for the next job, and callers for the end of the last units, before they sleep */
    WAKE_NS = 100000 /* callers work before they wake sleepers: that costs them 10 to 30 us, much for one short call */
};

static atomic_int asked_for; /* xent_set_num_threads; 0 follows OpenMP */

#if HAVE_TEAM
/* Threads beyond the processors have nowhere to run, and an OpenMP runtime that the system refuses one ends the process:
 * a call has no more than there are processors, but always so many, which shows that bits do not depend on their number. */
enum { FEW_THREADS = 16 };
static int most_threads = FEW_THREADS;
#endif

xent_status xent_set_num_threads(int n) {
    if (n < 0)
        return XENT_ERR_OPTION;
    atomic_store(&asked_for, n);
    return XENT_OK;
}

int xent_has_openmp(void) {
    return HAVE_TEAM;
}

int xent_get_num_threads(void) {
#if HAVE_TEAM
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
#if HAVE_TEAM
    if (omp_in_parallel()) /* the caller already uses the cores */
        return 1;
    n = n < most_threads ? n : most_threads;
#endif
    return most > 0 && most < n ? most : n;
}

#if HAVE_TEAM
typedef struct job {
    xent_unit work;
    void *ctx;
    ptrdiff_t units;
    _Atomic ptrdiff_t next; /* the first unit that nobody has taken */
    atomic_int inside;      /* helpers at work on it */
    int room;               /* helpers that may still join */
    fenv_t env;             /* rounding and flush to zero, a thread's own: the caller's decide, whoever does a unit */
    struct job *older;
} job;

static struct team {
    pthread_mutex_t lock; /* for all but the atomics, and for the jobs' room */
    /* A signal wakes any one of those that wait, so nobody waits beside those whom it is meant for. */
    pthread_cond_t wake;    /* helpers: there is a job, or another size is wanted */
    pthread_cond_t resized; /* thread 0 of the region: another size is wanted */
    pthread_cond_t
        done;          /* callers, each for a job of its own, so it is always broadcast: a helper was the last inside */
    job *jobs;         /* each on its caller's stack; the latest first */
    atomic_int posted; /* counts jobs, for helpers that spin */
    atomic_int waiting;   /* callers that sleep */
    int asleep;           /* helpers that sleep */
    int64_t began, ended; /* the present run of calls, one soon after the other; and its latest */
    atomic_int wanted;    /* helpers that the region should have; changes under the lock too */
    int size;             /* those it was opened for: where the two differ, it ends */
    bool hosted, leaving; /* the host is there, and is on its way out */
    bool forking;         /* which is why it leaves */
    pthread_t host;
} team = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .resized = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until *p is no longer `value`, or for SPIN_NS. Yields, because the thread that is waited for may be queued on this very
 * processor: a pause there made calls of 30 us 1.7 times as long as serial ones. */
static void spin_while(const atomic_int *p, int value) {
    int64_t stop = nanoseconds() + SPIN_NS;
    while (atomic_load(p) == value && nanoseconds() < stop)
        sched_yield();
}

static bool do_unit(job *j) {
    ptrdiff_t u = atomic_fetch_add(&j->next, 1);
    if (u >= j->units)
        return false;
    j->work(j->ctx, u);
    return true;
}

/* ---- helpers ---- */
static job *open_job(void) {
    job *j = team.jobs;
    while (j && (j->room == 0 || atomic_load(&j->next) >= j->units))
        j = j->older;
    return j;
}

/* Called with the lock, returns with it. */
static void help_with(job *j) {
    j->room--;
    atomic_fetch_add(&j->inside, 1);
    pthread_mutex_unlock(&team.lock);
    fesetenv(&j->env);
    while (atomic_load(&team.wanted) == team.size && do_unit(j))
        ;
    bool last = atomic_fetch_sub(&j->inside, 1) == 1; /* from here on the job may be gone */
    pthread_mutex_lock(&team.lock);
    if (last && atomic_load(&team.waiting) > 0)
        pthread_cond_broadcast(&team.done);
}

static void help(void) {
    pthread_mutex_lock(&team.lock);
    while (team.wanted == team.size) {
        job *j = open_job();
        int posted = atomic_load(&team.posted);
        if (j) {
            help_with(j);
            continue;
        }
        pthread_mutex_unlock(&team.lock);
        spin_while(&team.posted, posted);
        pthread_mutex_lock(&team.lock);
        if (atomic_load(&team.posted) == posted && team.wanted == team.size) {
            team.asleep++;
            pthread_cond_wait(&team.wake, &team.lock);
            team.asleep--;
        }
    }
    pthread_mutex_unlock(&team.lock);
}

/* Thread 0 of the region only sleeps: it stands for the callers, so that where OpenMP binds threads to places the helpers
 * get the others. The region's end, where OpenMP spins, comes only with another size. */
static void sleep_until_resized(void) {
    pthread_mutex_lock(&team.lock);
    while (team.wanted == team.size)
        pthread_cond_wait(&team.resized, &team.lock);
    pthread_mutex_unlock(&team.lock);
}

/* All that sleep in the region find out, with the lock, that another size is wanted. */
static void end_region(void) {
    pthread_cond_broadcast(&team.wake);
    pthread_cond_signal(&team.resized);
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma weak omp_pause_resource_all /* the libgomp that is linked may be one of OpenMP 4.5, which has it not */
#endif

static void *host(void *unused) {
    pthread_mutex_lock(&team.lock);
    while (team.wanted > 0) {
        int threads = 1 + (team.size = team.wanted);
        pthread_mutex_unlock(&team.lock);
#pragma omp parallel num_threads(threads)
        {
            if (omp_get_thread_num() > 0)
                help();
            else
                sleep_until_resized();
        }
        pthread_mutex_lock(&team.lock);
    }
    bool forking = team.forking;
    pthread_mutex_unlock(&team.lock);
#if defined(__GNUC__) && !defined(__clang__)
    /* libgomp sends its idle threads away when this one ends, but does not wait until they are gone; this does. */
    if (forking && omp_pause_resource_all)
        omp_pause_resource_all(omp_pause_hard);
#else
    (void)forking;
#endif
    return unused;
}

/* Called with the lock. Where the system has no thread to give, callers work alone and the next one asks again. */
static void want(int helpers) {
    if (team.leaving)
        return;
    team.wanted = helpers;
    if (team.hosted)
        end_region();
    else if (pthread_create(&team.host, NULL, host, NULL) == 0)
        team.hosted = true;
    else
        team.wanted = 0;
}

static void dismiss(bool forking) {
    pthread_mutex_lock(&team.lock);
    if (team.hosted && !team.leaving) {
        team.leaving = true;
        team.forking = forking;
        team.wanted = 0;
        end_region();
        pthread_mutex_unlock(&team.lock);
        pthread_join(team.host, NULL);
        pthread_mutex_lock(&team.lock);
        team.hosted = team.leaving = false;
    }
    pthread_mutex_unlock(&team.lock);
}

/* Also at exit. Nobody may be left in our code; to wait for the end of libgomp's own threads would hang, because they need
 * the loader, which dlclose has locked. */
__attribute__((destructor)) static void unload(void) {
    dismiss(false);
}

/* ---- fork: parent and child start a new team when they need one ---- */

/* The child would have the calling thread alone; Python warns of a fork beside other threads, and qemu-user does not get
 * through one. A team that another caller starts from here on is forgotten in the child. */
static void before_fork(void) {
    dismiss(true);
    pthread_mutex_lock(&team.lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&team.lock);
}

static void in_child(void) {
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.wake, NULL);
    pthread_cond_init(&team.resized, NULL);
    pthread_cond_init(&team.done, NULL);
    team.jobs = NULL;
    atomic_store(&team.waiting, 0);
    team.asleep = team.size = 0;
    team.wanted = 0;
    team.hosted = team.leaving = false;
}

/* As the library is loaded: with the first call it would come too late for a fork that is under way during it. After the
 * OpenMP runtime's own, which the question brings about: before a fork the latest handler runs first, and ours waits for a
 * region that LLVM's locks. */
__attribute__((constructor)) static void register_atfork(void) {
    const int processors = omp_get_num_procs();
    most_threads = processors > FEW_THREADS ? processors : FEW_THREADS;
    pthread_atfork(before_fork, after_fork, in_child);
}

/* ---- callers ---- */
static void share(ptrdiff_t units, int threads, xent_unit work, void *ctx) {
    job mine = {.work = work, .ctx = ctx, .units = units, .room = threads - 1};
    fegetenv(&mine.env);

    int64_t now = nanoseconds();
    pthread_mutex_lock(&team.lock);
    if (now - team.ended > SPIN_NS) /* helpers woken for the calls before would sleep again */
        team.began = now;
    int64_t wake = team.began + WAKE_NS;
    if (team.wanted < threads - 1)
        want(threads - 1);
    int sleepers = team.asleep < mine.room ? team.asleep : mine.room;
    mine.older = team.jobs;
    team.jobs = &mine;
    atomic_fetch_add(&team.posted, 1);
    pthread_mutex_unlock(&team.lock);

    while (do_unit(&mine))
        if (sleepers > 0 && nanoseconds() > wake)
            for (; sleepers > 0; sleepers--)
                pthread_cond_signal(&team.wake);

    now = nanoseconds();
    pthread_mutex_lock(&team.lock);
    team.ended = now;
    job **p = &team.jobs;
    while (*p != &mine)
        p = &(*p)->older;
    *p = mine.older;
    pthread_mutex_unlock(&team.lock);

    int inside;
    for (int64_t stop = now + SPIN_NS; (inside = atomic_load(&mine.inside)) > 0 && nanoseconds() < stop;)
        sched_yield();
    if (inside == 0)
        return;
    /* Asleep, so that a helper that was put off its processor may have this one. */
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add(&team.waiting, 1);
    while (atomic_load(&mine.inside) > 0)
        pthread_cond_wait(&team.done, &team.lock);
    atomic_fetch_sub(&team.waiting, 1);
    pthread_mutex_unlock(&team.lock);
}
#endif

void xent_parallel_for(ptrdiff_t units, int threads, xent_unit work, void *ctx) {
    if (units < threads)
        threads = (int)units;
#if HAVE_TEAM
    if (threads > 1) {
        share(units, threads, work, ctx);
        return;
    }
#endif
    for (ptrdiff_t u = 0; u < units; u++)
        work(ctx, u);
}

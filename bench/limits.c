/* limits.c: what this machine can do at all. bench/limits.py compiles it with the flags of one instruction set.
 *
 * Each function returns the seconds of one pass; every thread works on a piece of its own, which stays in its cache
 * where it fits. The barriers keep the start of the team out of the figure.
 */
#include <omp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX2__)
#define WIDTH 32
#else
#define WIDTH 16
#endif

typedef uint64_t Bytes __attribute__((vector_size(WIDTH)));
typedef float F32 __attribute__((vector_size(WIDTH)));
typedef int32_t I32 __attribute__((vector_size(WIDTH)));
typedef double F64 __attribute__((vector_size(WIDTH)));
typedef int64_t I64 __attribute__((vector_size(WIDTH)));

#define UNROLL 8
#define BLOCK (UNROLL * WIDTH)

/* The result has to go somewhere that the compiler cannot see through. */
#define KEEP(value) __asm__ volatile("" ::"r"(&(value)) : "memory")

typedef void pass_fn(char *to, const char *from, size_t blocks, size_t ahead);

static double timed(pass_fn *pass, char *to, const char *from, size_t bytes, int threads, int passes, size_t ahead) {
    double start = 0, stop = 0;
    size_t blocks = bytes / BLOCK;
#pragma omp parallel num_threads(threads)
    {
        size_t team = (size_t)omp_get_num_threads(), me = (size_t)omp_get_thread_num();
        size_t first = blocks * me / team, count = blocks * (me + 1) / team - first;
        char *mine = to ? to + first * BLOCK : NULL;
        pass(mine, from + first * BLOCK, count, ahead);
#pragma omp barrier
#pragma omp master
        start = omp_get_wtime();
        for (int i = 0; i < passes; i++)
            pass(mine, from + first * BLOCK, count, ahead);
#pragma omp barrier
#pragma omp master
        stop = omp_get_wtime();
    }
    return (stop - start) / passes;
}

/* In cache the threads do not share anything: each takes the shortest of its own passes, and their rates add up. A
 * thread that has to wait for its processor does not lower the limit then. The result is the seconds of all their
 * work. */
static double rated(pass_fn *pass, const char *from, size_t bytes, int threads, int passes) {
    double rate = 0;
    int team = 1;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
        double best = 1e9;
#pragma omp master
        team = omp_get_num_threads();
        const char *mine = from + (size_t)omp_get_thread_num() * bytes;
        for (int i = 0; i < passes; i++) {
            double start = omp_get_wtime();
            for (int k = 0; k < 8; k++)
                pass(NULL, mine, bytes / BLOCK, 0);
            double took = (omp_get_wtime() - start) / 8;
            best = took < best ? took : best;
        }
        rate = 1 / best;
    }
    return team / rate;
}

/* ahead: bytes of software prefetch, 0 for none. Which is best depends on the machine and the size. */
static void read_pass(char *to, const char *from, size_t blocks, size_t ahead) {
    Bytes sum[UNROLL];
    (void)to;
    memset(sum, 0, sizeof sum);
    for (size_t b = 0; b < blocks; b++, from += BLOCK) {
        if (ahead)
            for (size_t line = 0; line < BLOCK; line += 64)
                __builtin_prefetch(from + ahead + line);
        const Bytes *v = (const Bytes *)from;
        for (int i = 0; i < UNROLL; i++)
            sum[i] ^= v[i];
    }
    KEEP(sum);
}

static void copy_pass(char *to, const char *from, size_t blocks, size_t ahead) {
    for (size_t b = 0; b < blocks; b++, from += BLOCK, to += BLOCK) {
        if (ahead)
            for (size_t line = 0; line < BLOCK; line += 64)
                __builtin_prefetch(from + ahead + line);
        for (int i = 0; i < UNROLL; i++)
            ((Bytes *)to)[i] = ((const Bytes *)from)[i];
        KEEP(*to);
    }
}

#if defined(__SSE2__)
static inline void store_past_cache(char *to, Bytes v) {
#if WIDTH == 64
    _mm512_stream_si512((void *)to, (__m512i)v);
#elif WIDTH == 32
    _mm256_stream_si256((void *)to, (__m256i)v);
#else
    _mm_stream_si128((void *)to, (__m128i)v);
#endif
}

static void stream_pass(char *to, const char *from, size_t blocks, size_t ahead) {
    for (size_t b = 0; b < blocks; b++, from += BLOCK, to += BLOCK) {
        if (ahead)
            for (size_t line = 0; line < BLOCK; line += 64)
                __builtin_prefetch(from + ahead + line);
        for (int i = 0; i < UNROLL; i++)
            store_past_cache(to + i * WIDTH, ((const Bytes *)from)[i]);
    }
    _mm_sfence();
}
#endif

double limit_read(const char *from, size_t bytes, int threads, int passes, size_t ahead) {
    return timed(read_pass, NULL, from, bytes, threads, passes, ahead);
}

double limit_copy(char *to, const char *from, size_t bytes, int threads, int passes, size_t ahead) {
    return timed(copy_pass, to, from, bytes, threads, passes, ahead);
}

/* Negative where this compiler has no streaming store for this machine. */
double limit_stream(char *to, const char *from, size_t bytes, int threads, int passes, size_t ahead) {
#if defined(__SSE2__)
    return timed(stream_pass, to, from, bytes, threads, passes, ahead);
#else
    (void)to, (void)from, (void)bytes, (void)threads, (void)passes, (void)ahead;
    return -1;
#endif
}

/* exp and log within about one ULP on ordinary arguments, with nothing for NaN, infinities and denormals: less work
 * than any library may do, which is what makes their rate a limit. limits.py measures their errors too. */
static inline F32 exp_poly_f32(F32 x) {
    F32 t = x * 0x1.715476p+0f + 0x1.8p23f, n = t - 0x1.8p23f;
    F32 r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    F32 q = r * 0.0013926176f + 0.0083631731f;
    q = q * r + 0.041666555f;
    q = q * r + 0.16666577f;
    q = q * r + 0.5f;
    q = q * (r * r) + r + 1.0f;
    return (F32)((I32)q + ((I32)t << 23));
}

static inline F64 exp_poly_f64(F64 x) {
    F64 t = x * 0x1.71547652b82fep+0 + 0x1.8p52, n = t - 0x1.8p52;
    F64 r = (x - n * 0x1.62e42fefa2000p-1) - n * 0x1.9ef35793c7673p-41;
    F64 q = r * 2.51003758325612337e-8 + 2.76200758799833666e-7;
    q = q * r + 2.75572684803100255e-6;
    q = q * r + 2.48015213223686933e-5;
    q = q * r + 1.98412698630405453e-4;
    q = q * r + 1.38888889171967191e-3;
    q = q * r + 8.33333333333006445e-3;
    q = q * r + 4.16666666666241619e-2;
    q = q * r + 1.66666666666666675e-1;
    q = q * r + 0.5;
    q = q * (r * r) + r + 1.0;
    return (F64)((I64)q + ((I64)t << 52));
}

/* Tables that fit a register or two make the polynomials short; limits.py fills them. Those of powers have i taken off
 * their exponents' place, so that n can be added there unmasked. */
static float powers_f32[16] __attribute__((aligned(64)));
static double powers_f64[16] __attribute__((aligned(64)));
static float inverse_f32[32] __attribute__((aligned(64))), log_f32[32] __attribute__((aligned(64)));
static double inverse_f64[16] __attribute__((aligned(64))), log_f64[16] __attribute__((aligned(64)));

#if WIDTH == 64

static inline F32 exp_table_f32(F32 x) {
    F32 t = x * 0x1.715476p+4f + 0x1.8p23f, n = t - 0x1.8p23f;
    F32 r = (x - n * 0x1.62ep-5f) - n * 0x1.0bfbe8p-19f;
    F32 y = r * (r * (r * 0.16666862f + 0.50000977f)) + r;
    F32 scale = (F32)((I32)__builtin_shuffle(*(const F32 *)powers_f32, (I32)t) + ((I32)t << 19));
    return scale * y + scale;
}

static inline F64 exp_table_f64(F64 x) {
    F64 t = x * 0x1.71547652b82fep+4 + 0x1.8p52, n = t - 0x1.8p52;
    F64 r = (x - n * 0x1.62e42fefa0000p-5) - n * 0x1.cf79abc9e3b3ap-44;
    F64 q = r * 0.00138890343485994635 + 0.00833344970125345675;
    q = q * r + 0.0416666666649604497;
    q = q * r + 0.166666666653016909;
    q = q * r + 0.5;
    F64 y = q * (r * r) + r;
    const F64 *table = (const F64 *)powers_f64;
    F64 scale = (F64)((I64)__builtin_shuffle(table[0], table[1], (I64)t) + ((I64)t << 48));
    return scale * y + scale;
}
#elif WIDTH == 32
/* 2^(i/8) is what one register holds. */
static inline F32 exp_table_f32(F32 x) {
    F32 t = x * 0x1.715476p+3f + 0x1.8p23f, n = t - 0x1.8p23f;
    F32 r = (x - n * 0x1.62e4p-4f) - n * 0x1.7f7d1cp-23f;
    F32 q = r * 0.04167063f + 0.16668026f;
    F32 y = (q * r + 0.5f) * (r * r) + r;
    F32 scale = (F32)((I32)__builtin_shuffle(*(const F32 *)powers_f32, (I32)t) + ((I32)t << 20));
    return scale * y + scale;
}
#endif

/* x = 2^k (1 + f), 1 + f in [2/3, 4/3). */
static inline F32 log_poly_f32(F32 x) {
    I32 bits = (I32)x - 0x3f2aaaab, k = bits >> 23;
    F32 f = (F32)(bits - (k << 23) + 0x3f2aaaab) - 1.0f, e = __builtin_convertvector(k, F32);
    F32 q = f * 0.13425749f - 0.15040764f;
    q = q * f + 0.1411831f;
    q = q * f - 0.16483018f;
    q = q * f + 0.2000378f;
    q = q * f - 0.25004146f;
    q = q * f + 0.3333332f;
    q = q * f - 0.49999986f;
    return (q * (f * f) + e * 0x1.7f7d1cp-20f) + f + e * 0x1.62e4p-1f;
}

static inline F64 log_poly_f64(F64 x) {
    I64 bits = (I64)x - 0x3fe5555555555555, k = bits >> 52;
    F64 f = (F64)(bits - (k << 52) + 0x3fe5555555555555) - 1.0, e = __builtin_convertvector(k, F64);
    F64 s = f / (f + 2.0), z = s * s;
    F64 w = z * 0.151184871087245714 + 0.152837037524031468;
    w = w * z + 0.181846102462940646;
    w = w * z + 0.222221827766744816;
    w = w * z + 0.285714288360455504;
    w = w * z + 0.399999999993355553;
    w = w * z + 0.666666666666669386;
    F64 h = f * f * 0.5; /* log(1 + f) = f - h + s (h + z w) */
    return e * 0x1.62e42fefa2000p-1 - ((h - (s * (h + w * z) + e * 0x1.9ef35793c7673p-41)) - f);
}

#if WIDTH == 64
/* x = 2^k m, m in [3/4, 3/2), and m = (1 + r) / inverse: log x = k log 2 + (-log inverse) + log(1 + r). The parts next
 * to m = 1 have the inverse 1, so that nothing cancels there. getexp and scalef would take longer than the integers. */
static inline F32 log_table_f32(F32 x) {
    I32 high = ((I32)x - 0x3f400000) >> 23;
    F32 k = __builtin_convertvector(high, F32), m = (F32)((I32)x - (high << 23));
    const F32 *inverse = (const F32 *)inverse_f32, *log_inverse = (const F32 *)log_f32;
    I32 i = (I32)m >> 18;
    F32 r = m * __builtin_shuffle(inverse[0], inverse[1], i) - 1.0f;
    F32 q = (r * -0.24417627f + 0.33337189f) * r - 0.50000122f;
    F32 large = k * 0x1.62e4p-1f + __builtin_shuffle(log_inverse[0], log_inverse[1], i);
    return large + (q * (r * r) + (k * 0x1.7f7d1cp-20f + r));
}

static inline F64 log_table_f64(F64 x) {
    I64 high = ((I64)x - 0x3fe8000000000000) >> 52;
    F64 k = __builtin_convertvector(high, F64), m = (F64)((I64)x - (high << 52));
    const F64 *inverse = (const F64 *)inverse_f64, *log_inverse = (const F64 *)log_f64;
    I64 i = (I64)m >> 48;
    F64 r = m * __builtin_shuffle(inverse[0], inverse[1], i) - 1.0;
    F64 q = r * -0.0878565440430355465 + 0.110778811908995368;
    q = q * r - 0.125021374937258027;
    q = q * r + 0.142858153387138948;
    q = q * r - 0.166666657054227139;
    q = q * r + 0.199999999253281578;
    q = q * r - 0.250000000000531533;
    q = q * r + 0.333333333333488973;
    q = q * r - 0.500000000000000065;
    F64 large = k * 0x1.62e42fefa2000p-1 + __builtin_shuffle(log_inverse[0], log_inverse[1], i);
    return large + (q * (r * r) + (k * 0x1.9ef35793c7673p-41 + r));
}
#endif

#define RATE(name, V)                                                                                                  \
    static void name##_pass(char *to, const char *from, size_t blocks, size_t ahead) {                                 \
        V sum[UNROLL];                                                                                                 \
        (void)to, (void)ahead;                                                                                         \
        memset(sum, 0, sizeof sum);                                                                                    \
        for (size_t b = 0; b < blocks; b++, from += BLOCK)                                                             \
            for (int i = 0; i < UNROLL; i++)                                                                           \
                sum[i] += name(((const V *)from)[i]);                                                                  \
        KEEP(sum);                                                                                                     \
    }                                                                                                                  \
    double limit_##name(const char *from, size_t bytes, int threads, int passes) {                                     \
        return rated(name##_pass, from, bytes, threads, passes);                                                       \
    }                                                                                                                  \
    void apply_##name(char *to, const char *from, size_t bytes) {                                                      \
        for (size_t i = 0; i < bytes / WIDTH; i++)                                                                     \
            ((V *)to)[i] = name(((const V *)from)[i]);                                                                 \
    }

RATE(exp_poly_f32, F32)
RATE(exp_poly_f64, F64)
RATE(log_poly_f32, F32)
RATE(log_poly_f64, F64)
#if WIDTH >= 32
RATE(exp_table_f32, F32)
#endif
#if WIDTH == 64
RATE(exp_table_f64, F64)
RATE(log_table_f32, F32)
RATE(log_table_f64, F64)
#endif

/* The tables: 2^(i/16), i = 0..15; 32 pairs of an inverse and minus its logarithm in float32; 16 in float64. */
void limit_init(const double *powers, const double *pairs_f32, const double *pairs_f64) {
    int step = WIDTH == 32 ? 2 : 1; /* every second power, for a register half as long */
    for (int i = 0; i < 16 / step; i++) {
        float single = (float)powers[i * step];
        int32_t bits32;
        int64_t bits64;
        memcpy(&bits32, &single, sizeof bits32);
        memcpy(&bits64, &powers[i], sizeof bits64);
        bits32 -= (int32_t)i << (step == 2 ? 20 : 19);
        bits64 -= (int64_t)i << 48;
        memcpy(&powers_f32[i], &bits32, sizeof bits32);
        memcpy(&powers_f64[i], &bits64, sizeof bits64);
    }
    for (int i = 0; i < 32; i++) {
        inverse_f32[i] = (float)pairs_f32[2 * i];
        log_f32[i] = (float)pairs_f32[2 * i + 1];
    }
    for (int i = 0; i < 16; i++) {
        inverse_f64[i] = pairs_f64[2 * i];
        log_f64[i] = pairs_f64[2 * i + 1];
    }
}

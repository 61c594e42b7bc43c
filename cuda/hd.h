/* hd.h: what host and device share: numbers as they are stored, numbers as they are computed with, and exp and
 * log on them. Host and device run the same algebra: contraction is off (-fmad=false, -ffp-contract=off), and where a
 * product and a sum are to be rounded once this says fma(). Only the approximations of Quick arithmetic differ. */
#ifndef XENT_CUDA_HD_H
#define XENT_CUDA_HD_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../kernels/math/coefficients.h"
#include "../kernels/state.h"
#include "../kernels/storage.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define XENT_HD __host__ __device__ __forceinline__
#else
#define XENT_HD inline
#endif
#if defined(__CUDA_ARCH__)
#define XENT_UNROLL _Pragma("unroll")
#else
#define XENT_UNROLL
#endif

namespace xent {

/* ---- storage ---- */
struct half_t {
    uint16_t bits;
};
struct bf16_t {
    uint16_t bits;
};

template <class R> using bits_of = std::conditional_t<sizeof(R) == 4, uint32_t, uint64_t>;
template <class R> XENT_HD bits_of<R> to_bits(R f) {
    bits_of<R> b;
    memcpy(&b, &f, sizeof b);
    return b;
}
template <class B> XENT_HD std::conditional_t<sizeof(B) == 4, float, double> from_bits(B b) {
    std::conditional_t<sizeof(B) == 4, float, double> f;
    memcpy(&f, &b, sizeof f);
    return f;
}

XENT_HD float widen(bf16_t h) {
    return from_bits(uint32_t(h.bits) << 16);
}
XENT_HD float widen(half_t h) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(h.bits));
#else
    return half_to_float(h.bits);
#endif
}
template <class R> XENT_HD R widen(R f) {
    return f;
}

/* Rounded once, to nearest even. */
#if defined(__CUDA_ARCH__)
XENT_HD float to_odd(float f) {
    return f;
}
/* From double, 16 bits must not be rounded twice: the float between keeps an odd last bit where it drops digits. */
XENT_HD float to_odd(double f) {
    const float toward = __double2float_rz(f);
    return double(toward) == f || f != f ? toward : from_bits(to_bits(toward) | 1u);
}
#endif
template <class F> XENT_HD void narrow(F f, bf16_t *h) {
#if defined(__CUDA_ARCH__)
    h->bits = __bfloat16_as_ushort(__float2bfloat16_rn(to_odd(f)));
#else
    h->bits = double_to_bf16(f);
#endif
}
template <class F> XENT_HD void narrow(F f, half_t *h) {
#if defined(__CUDA_ARCH__)
    h->bits = __half_as_ushort(__float2half_rn(to_odd(f)));
#else
    h->bits = double_to_half(f);
#endif
}
template <class F, class R> XENT_HD void narrow(F f, R *h) {
    *h = R(f);
}

/* ---- arithmetic ---- */
XENT_HD float fma(float a, float b, float c) {
    return ::fmaf(a, b, c);
}
XENT_HD double fma(double a, double b, double c) {
    return ::fma(a, b, c);
}
template <class R> XENT_HD R abs(R v) {
    return v < R(0) ? -v : v;
}
XENT_HD float abs(float v) {
    return from_bits(to_bits(v) & 0x7fffffffu);
}
/* NaN of either operand is lost: for maxima, whose rows' sums carry it. */
XENT_HD float larger(float a, float b) {
    return ::fmaxf(a, b);
}
XENT_HD double larger(double a, double b) {
    return ::fmax(a, b);
}
/* v, but at least low; NaN stays NaN. */
XENT_HD float at_least(float low, float v) {
#if defined(__CUDA_ARCH__)
    float r;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(low), "f"(v));
    return r;
#else
    return v < low ? low : v;
#endif
}
XENT_HD double at_least(double low, double v) {
    return v < low ? low : v;
}
template <class R> XENT_HD R at_most(R high, R v) {
    return -at_least(-high, -v);
}
/* a / b within 1 ULP where neither 1 / b nor the quotient leaves the normal range; elsewhere what they are, roughly.
 * Without the calls that the compiler makes of its own division. */
XENT_HD float ratio(float a, float b) {
#if defined(__CUDA_ARCH__)
    float inv;
    asm("rcp.approx.f32 %0, %1;" : "=f"(inv) : "f"(b));
    const float q = a * inv, rest = fma(-q, b, a);
    return __builtin_fabsf(rest) < __builtin_huge_valf() ? fma(rest, inv, q) : q;
#else
    return a / b;
#endif
}
XENT_HD double ratio(double a, double b) {
#if defined(__CUDA_ARCH__)
    double inv;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(inv) : "d"(b));
    const double first = inv, e = fma(-b, inv, 1.0);
    inv = fma(inv, fma(e, e, e), inv); /* 20 bits, 60 */
    inv = __builtin_fabs(inv) < __builtin_huge_val() ? inv : first;
    const double q = a * inv, rest = fma(-q, b, a);
    return __builtin_fabs(rest) < __builtin_huge_val() ? fma(rest, inv, q) : q;
#else
    return a / b;
#endif
}
/* 2^t, of Quick arithmetic: 2 ULP; results below 2^-126 may be 0. */
XENT_HD float exp2_quick(float t) {
#if defined(__CUDA_ARCH__)
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(t));
    return e;
#else
    return __builtin_exp2f(t);
#endif
}

template <class R> struct fp;
template <> struct fp<float> {
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float infinity = __builtin_huge_valf(), nan = __builtin_nanf("");
    static constexpr float magic = 0x1.8p23f; /* v + magic has the integer nearest v in its low bits */
    static constexpr float low = 130.0f;      /* exp(-low) 2^KL_LIFT rounds to 0 */
    static constexpr float lift = 0x1p64f, drop = 0x1p-64f;
    static constexpr float faint = 0x1p-100f; /* exp(x - c) beside so small a t leaves the range */
    static constexpr float log2e = 0x1.715476p+0f;
    /* ln 2: the first part times any exponent is exact */
    static constexpr float ln2_hi = 0x1.62e4p-1f, ln2_lo = 0x1.7f7d1cp-20f;
    static constexpr float ln2 = 0x1.62e430p-1f, ln2_rest = -0x1.05c610p-29f; /* to twice the digits */
    static constexpr float tiny = 0x1p-126f, untiny = 0x1p25f, untiny_digits = 25.0f;
};
template <> struct fp<double> {
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double infinity = __builtin_huge_val(), nan = __builtin_nan("");
    static constexpr double magic = 0x1.8p52;
    static constexpr double low = 770.0;
    static constexpr double lift = 0x1p512, drop = 0x1p-512;
    static constexpr double faint = 0x1p-960;
    static constexpr double log2e = XENT_LOG2E;
    static constexpr double ln2_hi = XENT_LN2_A, ln2_lo = XENT_LN2_B;
    static constexpr double ln2 = 0x1.62e42fefa39efp-1, ln2_rest = 0x1.abc9e3b39803fp-56;
    static constexpr double tiny = 0x1p-1022, untiny = 0x1p54, untiny_digits = 54.0;
};

template <class R> XENT_HD bool finite(R v) {
    return abs(v) < fp<R>::infinity;
}

/* Horner's scheme, the highest coefficient first. */
template <class R> XENT_HD R poly(R, R c) {
    return c;
}
template <class R, class... C> XENT_HD R poly(R z, R c, R d, C... rest) {
    return poly(z, fma(c, z, d), rest...);
}
/* A polynomial of coefficients.h, of both kinds of numbers. */
#define XENT_POLYNOMIAL(name, COEFFICIENTS)                                                                            \
    XENT_HD float name(float z) {                                                                                      \
        return poly(z, COEFFICIENTS##_F32);                                                                            \
    }                                                                                                                  \
    XENT_HD double name(double z) {                                                                                    \
        return poly(z, COEFFICIENTS##_F64);                                                                            \
    }
XENT_POLYNOMIAL(exp_poly, XENT_EXP)
XENT_POLYNOMIAL(exp_tail, XENT_EXP_TAIL)
XENT_POLYNOMIAL(log_poly, XENT_LOG)
XENT_POLYNOMIAL(phi_poly, XENT_PHI)

/* ---- exact sums ---- */
/* a + b, and what it rounds away. */
template <class R> XENT_HD R two_sum(R a, R b, R *e) {
    const R s = a + b, back = s - a;
    *e = (a - (s - back)) + (b - back);
    return s;
}
/* The same where |a| >= |b|, or a = 0. */
template <class R> XENT_HD R quick_sum(R a, R b, R *e) {
    const R s = a + b;
    *e = b - (s - a);
    return s;
}

/* ---- exp ---- */
/* exp(d) 2^-k for the integer k nearest d / ln 2: the argument reduced in two steps, 1 + r added with its error. *lo:
 * what the last addition rounded away. */
template <class R> XENT_HD R exp_core(R d, R k, R *lo) {
    const R r1 = fma(-k, fp<R>::ln2_hi, d); /* exact */
    const R r = fma(-k, fp<R>::ln2_lo, r1), low = fma(-k, fp<R>::ln2_lo, r1 - r);
    const R h = R(1) + r, y = ((R(1) - h) + r) + fma(r * r, exp_poly(r), low);
    const R p = h + y;
    *lo = y - (p - h);
    return p;
}
template <class R> XENT_HD R pow2(R k) { /* integral |k| < bias */
    return from_bits(bits_of<R>(int(k) + fp<R>::bias) << fp<R>::mantissa);
}
/* p 2^k in two steps, of which only the last one rounds or overflows. */
template <class R> XENT_HD R scale_by(R p, R k) {
    const R most = R(2 * fp<R>::bias - 2);
    k = k < -most ? -most : k > most ? most : k == k ? k : R(0);
    const R half = R(int(k) / 2);
    return p * pow2(half) * pow2(k - half);
}
/* exp(d) 2^-k0 for any d and integral k0, and what its last addition rounded away. */
template <class R> XENT_HD R exp_any(R d, R k0, R *lo) {
    const R limit = R(8192);
    d = at_most(limit, at_least(-limit, d));
    const R k = (fma(d, fp<R>::log2e, fp<R>::magic) - fp<R>::magic), p = exp_core(d, k, lo);
    *lo = scale_by(*lo, k - k0);
    return scale_by(p, k - k0);
}
template <class R> XENT_HD R exp_any(R d, R k0) {
    R lo;
    return exp_any(d, k0, &lo);
}
/* ... as a sum of two, to about 2^-30 of it in float: what a row is divided by. */
template <class R> XENT_HD R exp_two(R d, R k0, R *lo) {
    const R k = fma(d, fp<R>::log2e, fp<R>::magic) - fp<R>::magic;
    const R r1 = fma(-k, fp<R>::ln2_hi, d), r = fma(-k, fp<R>::ln2_lo, r1), low = fma(-k, fp<R>::ln2_lo, r1 - r);
    const R s = r * r, half = R(0.5) * s, half_lo = R(0.5) * fma(r, r, -s);
    R e, f;
    R p = quick_sum(R(1), r, &e);
    p = quick_sum(p, half, &f);
    f = (e + f) + (fma(s * r, exp_tail(r), half_lo) + fma(low, r, low));
    p = quick_sum(p, f, &e);
    *lo = scale_by(e, k - k0);
    return scale_by(p, k - k0);
}
/* The same where the result is not far above 1, and d no further than fp::low below: scaled by a power of two that is
 * too large, which is normal then, and back. */
template <class R> XENT_HD R exp_near(R d, R k0) {
    const R magic = fp<R>::magic - k0, t = fma(d, fp<R>::log2e, magic); /* k - k0 in the low bits */
    R lo;
    const R p = exp_core(d, t - magic, &lo);
    return p * from_bits((to_bits(t) << fp<R>::mantissa) + to_bits(fp<R>::lift)) * fp<R>::drop;
}
/* exp(-|x|) */
template <class R> XENT_HD R exp_minus_abs(R x) {
    return exp_near(at_least(-fp<R>::low, -abs(x)), R(0));
}

/* ---- log ---- */
/* x = m 2^k with m in [sqrt 1/2, sqrt 2], for finite x > 0. */
template <class R> XENT_HD R split_exponent(R x, R *k) {
    using B = bits_of<R>;
    const bool small = x < fp<R>::tiny;
    const B y = to_bits(small ? x * fp<R>::untiny : x), root = to_bits(R(0.70710678118654752440)), one = to_bits(R(1));
    const B e = (y - root + one) >> fp<R>::mantissa;
    *k = R(int(e) - fp<R>::bias) - (small ? fp<R>::untiny_digits : R(0));
    return from_bits(y - ((e << fp<R>::mantissa) - one));
}
/* log(x) + more for finite x > 0, and in *low what the last addition rounded away; more is far below log(x), or x = 1.
 * log m = 2 atanh s = f - (f^2/2 - s (f^2/2 + s^2 P(s^2))) with f = m - 1, s = f / (m + 1). */
template <class R> XENT_HD R log_normal(R x, R more, R *low) {
    R k;
    const R m = split_exponent(x, &k), f = m - R(1), s = ratio(f, m + R(1));
    const R z = s * s, square = f * f, h = R(0.5) * square;
    const R p = fma(s, fma(z, log_poly(z), h), more);
    const R top = k * fp<R>::ln2_hi;
    R rest = fma(k, fp<R>::ln2_lo, p) - h;
    const R large = top + f;
    rest = rest + ((top - large) + f);
    const R r = large + rest;
    *low = (large - r) + rest;
    return r;
}
/* log 0 = -inf, of a negative number NaN. */
template <class R> XENT_HD R log(R x, R *low) {
    const R r = log_normal(x, R(0), low);
    if (x > R(0) && x < fp<R>::infinity)
        return r;
    *low = R(0);
    return x > R(0) ? x : x == R(0) ? -fp<R>::infinity : fp<R>::nan;
}
template <class R> XENT_HD R log(R x) {
    R low;
    return log(x, &low);
}
/* log(1 + e) for 0 <= e <= 1 */
template <class R> XENT_HD R log1p_unit(R e) {
    R low;
    const R u = R(1) + e;
    return log_normal(u, e - (u - R(1)), &low); /* what u rounded away goes back in */
}

/* exp(u) - 1 - u for -1 <= u <= 2: all of it, relative to itself. */
template <class R> XENT_HD R phi(R u) {
    return u * u * phi_poly(u);
}

/* ---- two numbers for one: what is done once a row ---- */
/* An unevaluated sum, twice as precise as R; what is not finite has no error. Not PAIRED it is hi alone, and lo is 0:
 * enough where results have 16 bits. */
template <class R, bool PAIRED> struct wide {
    R hi, lo;
    XENT_HD wide(R h = R(0), R l = R(0)) : hi(h), lo(PAIRED ? l : R(0)) {
    }
    XENT_HD R value() const {
        return PAIRED && finite(lo) ? hi + lo : hi;
    }

    friend XENT_HD wide operator+(wide a, wide b) {
        if constexpr (!PAIRED)
            return a.hi + b.hi;
        R e, f;
        const R s = two_sum(a.hi, b.hi, &e), t = two_sum(a.lo, b.lo, &f);
        if (!finite(s))
            return s;
        R s1 = quick_sum(s, e + t, &e);
        s1 = quick_sum(s1, e + f, &e);
        return {s1, e};
    }
    friend XENT_HD wide operator-(wide a) {
        return {-a.hi, -a.lo};
    }
    friend XENT_HD wide operator-(wide a, wide b) {
        return a + -b;
    }
    friend XENT_HD wide operator*(wide a, wide b) {
        const R p = a.hi * b.hi;
        if (!PAIRED || !finite(p))
            return p;
        R e = fma(a.hi, b.hi, -p);
        e = fma(a.hi, b.lo, fma(a.lo, b.hi, e));
        const R s = quick_sum(p, e, &e);
        return {s, e};
    }
    friend XENT_HD wide operator/(wide a, wide b) {
        const R q = ratio(a.hi, b.hi);
        if (!PAIRED || !finite(q))
            return q;
        const R rest = fma(-q, b.hi, a.hi) + fma(-q, b.lo, a.lo), more = ratio(rest, b.hi);
        R e;
        const R s = quick_sum(q, more, &e);
        return {s, e};
    }
};

template <bool P, class R> XENT_HD wide<R, P> difference(R a, R b) {
    R e = R(0);
    const R s = P ? two_sum(a, -b, &e) : a - b;
    return {s, e};
}

/* log(1 + z) for z > -1. */
template <class R, bool P> XENT_HD wide<R, P> log1p(wide<R, P> z) {
    R rounded, low;
    const R u = two_sum(R(1), z.hi, &rounded), w = ratio(rounded + z.lo, u);
    const R v = log_normal(u, fma(R(-0.5) * w, w, w), &low);
    return {v, low};
}

/* A double as two floats, or one. */
template <class R, bool P> XENT_HD wide<R, P> from_double(double v) {
    const R hi = R(v);
    return {hi, finite(hi) ? R(v - double(hi)) : R(0)};
}

/* What is added over rows, and a row's value times its weight: in double, which holds every weight, also where all else is
 * float; there once a row alone. */
template <class R> using row_sum = wide<double, sizeof(R) == 8>;
template <class R> constexpr int row_sum_doubles = sizeof(R) / 4; /* that it has in memory */
template <class R, bool P> XENT_HD row_sum<R> in_double(wide<R, P> v) {
    if constexpr (sizeof(R) == 8)
        return v;
    else
        return double(v.hi) + (finite(v.lo) ? double(v.lo) : 0.0);
}
template <class R> XENT_HD void put_sum(void *to, int64_t at, row_sum<R> v) {
    double *p = static_cast<double *>(to) + row_sum_doubles<R> * at;
    p[0] = v.hi;
    if constexpr (row_sum_doubles<R> == 2)
        p[1] = finite(v.lo) ? v.lo : 0.0;
}
template <class R> XENT_HD row_sum<R> get_sum(const void *from, int64_t at) {
    const double *p = static_cast<const double *>(from) + row_sum_doubles<R> * at;
    return {p[0], row_sum_doubles<R> == 2 ? p[1] : 0.0};
}
/* k of 2^k <= |v| < 2^(k + 1), where pow2 has both 2^k and 2^-k. */
XENT_HD int exponent_of(double v) {
    const int k = int(to_bits(v) >> 52 & 0x7ffu) - 1023;
    return k < -1022 ? -1022 : k > 1022 ? 1022 : k;
}
/* a / t with inv = 1 / t, of which the compiler's own division would need registers: a quotient and its exact remainder,
 * where both keep their bits; SMALL: a is a float. Elsewhere t is brought near 1 first. */
template <bool SMALL> XENT_HD double divided(double a, double t, double inv) {
    const double q = a * inv, low = 0x1p-300, high = 0x1p300;
    if (low <= t && t <= high && (SMALL ? finite(q) : low <= abs(q) && abs(q) <= high))
        return fma(fma(-q, t, a), inv, q);
    const int k = exponent_of(t);
    return scale_by(ratio(a, t * pow2(-double(k))), -double(k));
}
/* Whether a float holds v and its products with what is not extreme; 0 and what is not finite are nothing else there. */
XENT_HD bool fits_float(double v) {
    const double size = abs(v);
    return (0x1p-60 <= size && size <= 0x1p60) || size == 0.0 || !finite(v);
}
/* v times its weight: what weighs nothing adds nothing, be it infinite. */
template <class V, class R> XENT_HD V weigh(V v, R weight, bool is_nan) {
    return weight != R(0) || is_nan ? v * weight : V(R(0));
}

/* ---- places ---- */
/* Division of 0 <= n < 2^63 by what the host knows: a product and a shift. */
struct divider {
    uint64_t by, factor; /* 0: divides by 1 */
    int shift;
};
inline divider divider_of(int64_t d) {
    divider v = {uint64_t(d), 0, 0};
    if (d > 1) {
        const int log = 64 - __builtin_clzll(uint64_t(d) - 1); /* 2^log >= d */
        v.factor = uint64_t(((unsigned __int128)(1) << (63 + log)) / uint64_t(d)) + 1;
        v.shift = log - 1;
    }
    return v;
}
XENT_HD int64_t quotient(int64_t n, const divider &d) {
    if (d.factor == 0)
        return n;
    const uint64_t high = uint64_t((unsigned __int128)(uint64_t(n)) * d.factor >> 64);
    return int64_t(high >> d.shift);
}
XENT_HD int64_t remainder(int64_t n, int64_t quotient, const divider &d) {
    return n - quotient * int64_t(d.by);
}

/* ---- what a kernel computes in ---- */
/* quick: results of 16 bits have 12 at most that count: exponentials come from the special function unit, and rows are
 * finished in single numbers. */
template <class REAL, class STORED> struct arithmetic {
    using real = REAL;
    using stored = STORED;
    static constexpr bool quick = sizeof(STORED) == 2;
};
struct F64 : arithmetic<double, double> {};
struct F32 : arithmetic<float, float> {};
struct F16 : arithmetic<float, half_t> {};
struct BF16 : arithmetic<float, bf16_t> {};

} // namespace xent

#endif

/* rowstate.h: what a row is folded into, in scalar form: start, raise, scale, merge, and KL's finish (log sum exp's is
 * finish.h, several rows at once). C11 and C++, no dependency but <math.h>.
 *
 * A sum of exponentials is held against a reference that is a power of two, not exp(max): with
 *     E(x) = exp(x - c) 2^-k,   k = rint(m / ln 2), c = 0     where |m| <= XENT_PLAIN   (m the largest x so far)
 *                               k = 0,              c = m     elsewhere
 * nothing is rounded before the exponential's own argument reduction: c = 0 needs no subtraction, and where c = m every
 * x that can matter lies within a factor of two of m, so that x - m is exact. Changing the reference multiplies by a
 * power of two, which is exact as well. The classic exp(x - m) loses up to |x - m| / 2 ULP here, in every element.
 */
#ifndef XENT_ROWSTATE_H
#define XENT_ROWSTATE_H

#include <math.h>

#ifdef __CUDACC__
#define XENT_ROWFN static __host__ __device__ inline
#else
#define XENT_ROWFN static inline
#endif

#define XENT_PLAIN 2048.0
#define XENT_LOG2E 1.4426950408889634074
/* ln 2 in two parts; the first has 40 bits, so that its product with |k| < 2^13 is exact. */
#define XENT_LN2_A 0x1.62e42fefa2000p-1
#define XENT_LN2_B 0x1.9ef35793c7673p-41

typedef struct xent_ref {
    double c, k;
} xent_ref;

XENT_ROWFN xent_ref xent_ref_of(double m) {
    xent_ref f;
    f.c = 0.0;
    f.k = 0.0;
    if (m >= -XENT_PLAIN && m <= XENT_PLAIN)
        f.k = (m * XENT_LOG2E + 0x1.8p52) - 0x1.8p52; /* rint, without the call */
    else if (m > -INFINITY)
        f.c = m; /* also +inf: every other x is then infinitely far below */
    return f;
}

/* exp(d + lo + k ln 2), lo small: where d nearly cancels k ln 2, no digit of lo is lost. */
XENT_ROWFN double xent_exp_ln2(double d, double lo, double k) {
    return exp((d + k * XENT_LN2_A) + (lo + k * XENT_LN2_B));
}

/* E(x) against f, for x no larger than f's maximum. */
XENT_ROWFN double xent_ref_exp(double x, xent_ref f) {
    return xent_exp_ln2(x == f.c ? 0.0 : x - f.c, 0.0, -f.k);
}

/* What a sum held against `from` is multiplied by to be held against `to`. */
XENT_ROWFN double xent_ref_scale(xent_ref from, xent_ref to) {
    double d = from.c - to.c, k = from.k - to.k;
    if (from.c == to.c)
        return k == 0.0 ? 1.0 : ldexp(1.0, (int)k);
    return xent_exp_ln2(d, 0.0, k);
}

/* Neumaier's compensated sum. */
typedef struct xent_sum {
    double s, e;
} xent_sum;

XENT_ROWFN void xent_sum_add(xent_sum *a, double v) {
    double t = a->s + v;
    double big = fabs(a->s) >= fabs(v) ? a->s : v, small = fabs(a->s) >= fabs(v) ? v : a->s;
    double e = (big - t) + small;
    a->s = t;
    if (e - e == 0.0) /* an infinite or NaN sum stays what it is */
        a->e += e;
}

XENT_ROWFN double xent_sum_value(xent_sum a) {
    return a.s + a.e;
}

/* exp(u) - 1 - u and log1p(z) - z, each to full relative accuracy. */
XENT_ROWFN double xent_expm1mx(double u) {
    double s = 0.0;
    int n;
    if (!(fabs(u) < 0.6))
        return expm1(u) - u;
    for (n = 17; n >= 2; n--) /* 0.6^18/18! is below a quarter ULP of the sum */
        s = (s * u + 1.0) / n;
    return s * u * u; /* the loop leaves 1/2! + u/3! + ... */
}

XENT_ROWFN double xent_log1pmx(double z) {
    double s, s2, p = 0.0;
    int n;
    if (!(fabs(z) < 0.4))
        return log1p(z) - z;
    s = z / (2.0 + z);
    s2 = s * s;
    for (n = 23; n >= 3; n -= 2) /* log1p(z) = 2 atanh(s), z - 2 s = z s */
        p = p * s2 + 2.0 / n;
    return s * (p * s2 - z);
}

XENT_ROWFN void xent_sum_merge(xent_sum *a, xent_sum b) {
    xent_sum_add(a, b.s);
    a->e += b.e;
}

XENT_ROWFN void xent_sum_scale(xent_sum *a, double f) {
    a->s *= f;
    a->e *= f;
}

/* ---- log sum exp: m, and r = sum of E over all but one maximal element ---- */
typedef struct xent_lse {
    double m;
    xent_sum r;
} xent_lse;

typedef struct xent_lse_result {
    double lse;         /* log sum exp x                                   */
    double log1;        /* lse - m, accurate also where it is tiny         */
    double inv, inv_lo; /* E(x) * (inv + inv_lo) = softmax(x)       */
    double rest;        /* the sum's share that is not the maximum: 1 - max p */
} xent_lse_result;

XENT_ROWFN xent_lse xent_lse_start(void) {
    xent_lse s;
    s.m = -INFINITY;
    s.r.s = s.r.e = 0.0;
    return s;
}

/* E of the maximum itself: in [0.7, 1.42], or 1. */
XENT_ROWFN double xent_lse_top(xent_lse s) {
    return xent_ref_exp(s.m, xent_ref_of(s.m));
}

/* The same elements against the reference of a maximum m > s->m: none of them is left out now. */
XENT_ROWFN void xent_lse_raise(xent_lse *s, double m) {
    if (s->m > -INFINITY) { /* else the sum is 0, or NaN */
        xent_sum_add(&s->r, xent_lse_top(*s));
        xent_sum_scale(&s->r, xent_ref_scale(xent_ref_of(s->m), xent_ref_of(m)));
    }
    s->m = m;
}

/* ---- KL(t/W, softmax x) from u = x - log t - c ----
 * W = sum t, U = sum t u, A = sum t (exp(u) - 1 - u): A's terms are never negative, so nothing cancels however near the
 * two rows are. c may be any number; the nearer to the mean of x - log t under t, the smaller U. */
#define XENT_KL_LIFT 32.0 /* target logits: t is held 2^32 larger, so that t u is normal wherever the result is */
typedef struct xent_kl {
    double c,
        c_lo; /* c in two parts: a divergence of 1e-30 between confident rows is the square of what one part rounds */
    xent_sum w, u, a;
} xent_kl;

XENT_ROWFN xent_kl xent_kl_start(void) {
    xent_kl s = {0.0, 0.0, {0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}};
    return s;
}

/* t held against a reference 1/f as large. */
XENT_ROWFN void xent_kl_scale(xent_kl *s, double f) {
    xent_sum_scale(&s->w, f);
    xent_sum_scale(&s->u, f);
    xent_sum_scale(&s->a, f);
}

/* The sums against c - e instead of c. A small e is added as a difference, so that thousands of small shifts round no more
 * than one; a large one is a factor, which must not cancel. */
XENT_ROWFN void xent_kl_shift(xent_kl *s, double e) {
    double w = xent_sum_value(s->w), more = 0.0;
    if (e == 0.0)
        return;
    if (w != 0.0)
        more = expm1(e) * xent_sum_value(s->u) + xent_expm1mx(e) * w;
    if (fabs(e) < 0.5)
        xent_sum_add(&s->a, expm1(e) * xent_sum_value(s->a));
    else
        xent_sum_scale(&s->a, exp(e));
    xent_sum_add(&s->a, more);
    xent_sum_add(&s->u, e * w);
}

/* Both against the same reference of t, about their common mean. */
XENT_ROWFN void xent_kl_merge(xent_kl *a, xent_kl b) {
    double gap = (b.c - a->c) + (b.c_lo - a->c_lo), wa = xent_sum_value(a->w), wb = xent_sum_value(b.w), move, c;
    if (wa == 0.0 && xent_sum_value(a->a) == 0.0) {
        *a = b;
        return;
    }
    if (wb == 0.0)
        move = 0.0;
    else if (wa == 0.0)
        move = gap;
    else
        move = (xent_sum_value(a->u) + wb * gap + xent_sum_value(b.u)) / (wa + wb);
    xent_kl_shift(a, -move);
    xent_kl_shift(&b, gap - move);
    xent_sum_merge(&a->w, b.w);
    xent_sum_merge(&a->u, b.u);
    xent_sum_merge(&a->a, b.a);
    move += a->c_lo;
    c = a->c + move;
    a->c_lo = fabs(a->c) >= fabs(move) ? move - (c - a->c) : a->c - (c - move);
    a->c = c;
}

/* Not finite: the direct sum decides. exp(u) left the range somewhere, or c came out so large that its own rounding took it
 * away from the mean (|c| > 2^50 or so), or the row holds NaN or a true infinity. */
XENT_ROWFN double xent_kl_finish(xent_kl s) {
    double w = xent_sum_value(s.w), u = xent_sum_value(s.u), a = xent_sum_value(s.a), z, v;
    if (w == 0.0)
        return a != a ? a : 0.0;
    if (!(fabs(u) <= 0.5 * w))
        return NAN;
    z = (a + u) / w;
    v = z < 0.4 ? a / w + xent_log1pmx(z) : log1p(z) - u / w;
    return v < 0.0 ? 0.0 : v; /* only the rounding of equal rows falls below zero */
}

#endif

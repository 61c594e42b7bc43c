/* vmath.h: exp, log and their companions on vectors, once for every instruction set and both reals; from coefficients.h,
 * which cuda/ shares.
 *
 * vexp2ref is within 0.75 ULP, measured as logsumexp([0, -d]), which returns little else; the others are held by the
 * budgets of the operations in tests/cases.py.
 */
#undef LN2_HI
#undef LN2_MID
#undef LN2_LO
#undef EXP_LOW
#undef LIFT
#undef vexp_near_lo
#undef C_
#undef UNROLL
#undef INLINE
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
/* ln 2 in parts. The first is short, so that x - k LN2_HI is exact; without fused multiply-add the second must be, too. */
#if XENT_REAL == 32
#define C_(name) XENT_##name##_F32
#define EXP_LOW 130.0f /* exp(-130) 2^XENT_KL_LIFT rounds to 0 */
#if VEC_FMA
#define LN2_HI 0x1.62e4p-1f
#define LN2_MID 0x1.7f7d1cp-20f
#else
#define LN2_HI 0x1.62ep-1f
#define LN2_MID 0x1.0bep-15f
#define LN2_LO 0x1.be8e7cp-27f
#endif
#else
#define C_(name) XENT_##name##_F64
#define EXP_LOW 770.0
#define LN2_HI 0x1.62e42fefa2000p-1
#if VEC_FMA
#define LN2_MID 0x1.9ef35793c7673p-41
#else
#define LN2_MID 0x1.9ef35793c6000p-41
#define LN2_LO 0x1.673007e5ed5e8p-81
#endif
#endif

/* ---- polynomials ---- */
/* Horner's scheme, the highest power first. */
#define vpoly(z, c) FN(poly)(z, c, (int)(sizeof(c) / sizeof *(c)))
INLINE V FN(poly)(V z, const R *c, const int n) {
    V v = vset(c[0]);
    UNROLL for (int i = 1; i < n; i++) v = vfma(v, z, vset(c[i]));
    return v;
}
static const R FN(log_c)[] = {C_(LOG)}, FN(phi_c)[] = {C_(PHI)};

/* ---- what additions and products round ---- */
/* The sum of a and b, exactly, in two parts. */
INLINE V FN(two_sum)(V a, V b, V *low) {
    V sum = vadd(a, b), back = vsub(sum, a);
    *low = vadd(vsub(a, vsub(sum, back)), vsub(b, back));
    return sum;
}

/* c - a b with the product exact. */
INLINE V FN(vresidual)(V a, V b, V c) {
#if VEC_FMA
    return vfnma(a, b, c);
#else /* Dekker's product, from halves of a significand */
    const V half = vset(XENT_REAL == 32 ? (R)4097 : (R)134217729);
    V ta = vmul(half, a), tb = vmul(half, b);
    V ah = vsub(ta, vsub(ta, a)), bh = vsub(tb, vsub(tb, b)), al = vsub(a, ah), bl = vsub(b, bh), p = vmul(a, b);
    V e = vadd(vsub(vmul(ah, bh), p), vadd(vmul(ah, bl), vadd(vmul(al, bh), vmul(al, bl))));
    return vsub(vsub(c, p), e);
#endif
}

/* Rounded to 24 bits, as a float holds. */
INLINE V FN(vfirst24)(V v) {
    V g = vmul(v, vset((R)(0x1p29 + 1.0)));
    return XENT_REAL == 32 ? v : vsub(g, vsub(g, v));
}

/* ---- exp ---- */
#if !VEC_SCALEF
/* 2^k for integral |k| <= EXP_BIAS - 1. */
static inline V FN(vpow2)(V k) {
    return ireal(iadd(ishl(ibits(vadd(k, vset(ROUND_MAGIC))), MANT_BITS), ibits(vset((R)1))));
}
/* p 2^k in two steps, so that only the last one rounds or overflows. */
static inline V FN(vldexp_)(V p, V k) {
    const R most = (R)(2 * EXP_BIAS - 2);
    k = vmin(vset(most), vmax(vset(-most), k));
    V half = vround(vmul(k, vset((R)0.5)));
    return vmul(vmul(p, FN(vpow2)(half)), FN(vpow2)(vsub(k, half)));
}
#undef vldexp
#define vldexp FN(vldexp_)
#endif

/* Where what fades is normal. */
#undef LIFT
#undef LIFT_BITS
#define LIFT_BITS (XENT_REAL == 32 ? 64 : 512)
#define LIFT (XENT_REAL == 32 ? (R)0x1p64 : (R)0x1p512)

/* exp(d) 2^-k0, within 0.75 ULP, and in *lo what the last addition rounded away. NaN stays NaN. */
#if VEC_TABLE16
/* d = n ln2/16 + r: 2^(n/16) from a table in two parts, and exp(r) - 1 by a short polynomial. */
static const R FN(exp2_hi)[16] = {
#if XENT_REAL == 32
    0x1.000000p+0f, 0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fe0p+0f, 0x1.3dea64p+0f,
    0x1.4bfdaep+0f, 0x1.5ab07ep+0f, 0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
    0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
#else
    0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
    0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
    0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
    0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};
#endif
/* The same less n in the bits that (n << MANT_BITS - 4) brings back, with the whole powers of two. */
static const R FN(exp2_bits)[16] = {
#if XENT_REAL == 32
    0x1p+0f,        0x1.fb5586p-1f, 0x1.f72b84p-1f, 0x1.f387a6p-1f, 0x1.f06fep-1f,  0x1.edea64p-1f,
    0x1.ebfdaep-1f, 0x1.eab07ep-1f, 0x1.ea09e6p-1f, 0x1.ea1148p-1f, 0x1.eace54p-1f, 0x1.ec4918p-1f,
    0x1.ee89fap-1f, 0x1.f199bep-1f, 0x1.f5818ep-1f, 0x1.fa4afap-1f
#else
    0x1p+0,
    0x1.fb5586cf9890fp-1,
    0x1.f72b83c7d517bp-1,
    0x1.f387a6e756238p-1,
    0x1.f06fe0a31b715p-1,
    0x1.edea64c123422p-1,
    0x1.ebfdad5362a27p-1,
    0x1.eab07dd485429p-1,
    0x1.ea09e667f3bcdp-1,
    0x1.ea11473eb0187p-1,
    0x1.eace5422aa0dbp-1,
    0x1.ec49182a3f090p-1,
    0x1.ee89f995ad3adp-1,
    0x1.f199bdd85529cp-1,
    0x1.f5818dcfba487p-1,
    0x1.fa4afa2a490dap-1
#endif
};
static const R FN(exp2_lo)[16] = {
#if XENT_REAL == 32
    0.0f,
    0x1.9f3122p-25f,
    -0x1.c15742p-27f,
    0x1.ceac48p-25f,
    0x1.4636e2p-25f,
    0x1.824684p-25f,
    -0x1.593abcp-25f,
    -0x1.5bd5ecp-27f,
    0x1.9fcef4p-26f,
    -0x1.829fd0p-25f,
    0x1.15506ep-27f,
    0x1.51f848p-27f,
    -0x1.a94b14p-26f,
    -0x1.3d56b2p-27f,
    -0x1.822dbcp-27f,
    0x1.52486cp-27f};
#else
    0.0,
    0x1.8a62e4adc610bp-54,
    -0x1.19041b9d78a76p-55,
    0x1.9b07eb6c70573p-54,
    0x1.6f46ad23182e4p-55,
    0x1.ada0911f09ebcp-55,
    0x1.d4397afec42e2p-56,
    0x1.6324c054647adp-54,
    -0x1.bdd3413b26456p-54,
    -0x1.41577ee04992fp-55,
    0x1.6e9f156864b27p-54,
    0x1.c7c46b071f2bep-56,
    0x1.7a1cd345dcc81p-54,
    0x1.11065895048ddp-55,
    0x1.2ed02d75b3707p-55,
    -0x1.e9c23179c2893p-54};
#endif
/* r, and (exp(r) - 1 - r) / r^2. */
static inline V FN(vexp_rest)(V d, V n) {
#if XENT_REAL == 32
    return vfnma(n, vset(0x1.0bfbe8p-19f), vfnma(n, vset(0x1.62ep-5f), d));
#else
    return vfnma(n, vset(0x1.cf79abc9e3b3ap-44), vfnma(n, vset(0x1.62e42fefa0000p-5), d));
#endif
}
static inline V FN(vexp_tail)(V r) {
#if XENT_REAL == 32
    return vfma(r, vset(0.16667046f), vset(0.50001621f));
#else
    V q = vfma(r, vset(0.0013889085082940276), vset(0.008333472042999574));
    q = vfma(q, r, vset(0.04166666666287999));
    q = vfma(q, r, vset(0.16666666664414165));
    return vfma(q, r, vset(0.5));
#endif
}
static inline V FN(vexp2ref_lo)(V d, V k0, V *lo) {
    V t = vfma(d, vset((R)(16.0 * XENT_LOG2E)), vset(ROUND_MAGIC)); /* n in the low bits */
    V n = vsub(t, vset(ROUND_MAGIC));
    V hi = vlookup16(FN(exp2_hi), t), low = vlookup16(FN(exp2_lo), t), r = FN(vexp_rest)(d, n);
    V y = vfma(hi, vfma(vmul(r, r), FN(vexp_tail)(r), r), low); /* exp(r) - 1, times hi */
    V p = vadd(hi, y), scale = vfma(n, vset((R)0.0625), vsub(vset((R)0), k0));
    *lo = vldexp(vsub(y, vsub(p, hi)), scale);
    return vldexp(p, scale);
}
#define vexp_near_lo FN(vexp2ref_lo)
#else
/* exp(d) 2^-k for the integer k nearest d / ln 2: d = k ln2 + r + low, exp(r + low) by a polynomial, 1 + r added with its
 * error. */
static const R FN(exp_c)[] = {C_(EXP)};
static inline V FN(vexp_core)(V d, V k, V *lo) {
    const V one = vset((R)1);
    V r1 = vfnma(k, vset(LN2_HI), d); /* exact */
    V r = vfnma(k, vset(LN2_MID), r1);
    V low = vfnma(k, vset(LN2_MID), vsub(r1, r));
#if !VEC_FMA
    V r2 = vfnma(k, vset(LN2_LO), r);
    low = vadd(low, vfnma(k, vset(LN2_LO), vsub(r, r2)));
    r = r2;
#endif
    V h = vadd(one, r), y = vadd(vadd(vsub(one, h), r), vfma(vmul(r, r), vpoly(r, FN(exp_c)), low));
    V p = vadd(h, y);
    *lo = vsub(y, vsub(p, h));
    return p;
}
static inline V FN(vexp2ref_lo)(V d, V k0, V *lo) {
    V k = vround(vmul(d, vset((R)XENT_LOG2E))), p = FN(vexp_core)(d, k, lo);
    k = vsub(k, k0);
    *lo = vldexp(*lo, k);
    return vldexp(p, k);
}
/* The same where the result is not far above 1 and d is at most EXP_LOW below: scaled by a power of two that is 2^LIFT too
 * large, which is normal then, and back. */
static inline V FN(vexp_near_lo)(V d, V k0, V *lo) {
    V magic = vsub(vset(ROUND_MAGIC), k0), t = vfma(d, vset((R)XENT_LOG2E), magic); /* k - k0 in the low bits */
    V p = FN(vexp_core)(d, vsub(t, magic), lo), s = ireal(iadd(ishl(ibits(t), MANT_BITS), ibits(vset(LIFT))));
    *lo = vmul(vmul(*lo, s), vset(1 / LIFT));
    return vmul(vmul(p, s), vset(1 / LIFT));
}
#define vexp_near_lo FN(vexp_near_lo)
#endif

/* A window for exponentials: 2^k near the largest, and LOWEST below it, or where they fade as results do EXP_LOW. */
typedef struct FN(window) {
    V magic, low;
} FN(window);
#undef LOWEST
#define LOWEST (XENT_REAL == 32 ? (R) - 86 : (R) - 707)
INLINE FN(window) FN(window_of)(V k, const bool fades) {
    const V from = vsub(k, vset((R)(fades ? LIFT_BITS : 0)));
    FN(window)
    w = {vfnma(from, vset((R)(VEC_TABLE16 ? 16 : 1)), vset(ROUND_MAGIC)),
         vfma(k, vset((R)(XENT_LN2_A + XENT_LN2_B)), vset(fades ? -EXP_LOW : LOWEST))};
    return w;
}
/* exp(x) 2^-k within 1 ULP for x not far above k ln 2; what is lower than the window counts as its low end, which is 0 if they fade,
 * and NaN stays NaN. */
INLINE V FN(vexp_window)(V x, FN(window) w, const bool fades) {
    x = vmax(w.low, x);
#if VEC_TABLE16
    V t = vfma(x, vset((R)(16.0 * XENT_LOG2E)), w.magic), r = FN(vexp_rest)(x, vsub(t, w.magic));
    V hi = ireal(iadd(ishl(ibits(t), MANT_BITS - 4), ibits(vlookup16(FN(exp2_bits), t))));
    V p = vfma(hi, vfma(vmul(r, r), FN(vexp_tail)(r), r), hi);
#else
    V t = vfma(x, vset((R)XENT_LOG2E), w.magic), n = vsub(t, w.magic);
    V r = vfnma(n, vset(LN2_MID), vfnma(n, vset(LN2_HI), x));
#if !VEC_FMA
    r = vfnma(n, vset(LN2_LO), r);
#endif
    V p = vadd(vset((R)1), vfma(vmul(r, r), vpoly(r, FN(exp_c)), r));
    p = vmul(p, ireal(iadd(ishl(ibits(t), MANT_BITS), ibits(vset((R)1)))));
#endif
    return fades ? vmul(p, vset(1 / LIFT)) : p;
}

static inline V FN(vexp2ref)(V d, V k0) {
    V lo;
    return FN(vexp2ref_lo)(d, k0, &lo);
}

/* A reference (state.h) as vectors; low bounds x - c where E(x) is certainly 0. */
typedef struct FN(vref) {
    V c, k, low;
} FN(vref);

/* E(x) = exp(x - c) 2^-k for x no larger than what f was made of. */
static inline V FN(vexp_ref_lo)(V x, FN(vref) f, V *lo) {
    return vexp_near_lo(vmax(f.low, vsub(x, f.c)), f.k, lo);
}

static inline V FN(vexp_ref)(V x, FN(vref) f) {
    V lo;
    return FN(vexp_ref_lo)(x, f, &lo);
}

/* The same within 1 ULP, for results that are rounded once more. */
INLINE V FN(vexp_ref_near)(V x, FN(vref) f) {
    const FN(window) w = {FN(window_of)(f.k, true).magic, f.low};
    return FN(vexp_window)(vsub(x, f.c), w, true);
}

/* ---- log ---- */
/* Natural logarithm; log 0 = -inf, of a negative number NaN. m in [sqrt 1/2, sqrt 2], s = (m - 1)/(m + 1),
 * log m = 2 atanh s = f - s (f - s^2 P(s^2)) with f = m - 1, as in fdlibm. */
/* log(x) + more for finite x > 0, and in *low what the last addition rounded away; more is far below log(x), or x = 1. */
static inline V FN(vlog_normal)(V x, V more, V *low) {
    const V one = vset((R)1);
#if VEC_SCALEF
    V k = vadd(vexponent(vmul(x, vset((R)0.70710678118654752440))), one);
    V m = vldexp(x, vsub(vset((R)0), k));
#else
    const R lift = XENT_REAL == 32 ? (R)0x1p25 : (R)0x1p54;
    M tiny = mlt(x, vset(XENT_REAL == 32 ? (R)0x1p-126 : (R)0x1p-1022));
    V y = vsel(tiny, vmul(x, vset(lift)), x);
    /* the biased exponent of y / sqrt(1/2) */
    I e = ishr(iadd(isub(ibits(y), ibits(vset((R)0.70710678118654752440))), ibits(one)), MANT_BITS);
    V m = ireal(isub(ibits(y), isub(ishl(e, MANT_BITS), ibits(one))));
    V k = vsub(ireal(ior(e, ibits(vset((R)1 / (XENT_REAL == 32 ? (R)0x1p-23 : (R)0x1p-52))))),
               vset((XENT_REAL == 32 ? (R)0x1p23 : (R)0x1p52) + (R)EXP_BIAS));
    k = vsub(k, vif(tiny, vset(XENT_REAL == 32 ? (R)25 : (R)54)));
#endif
    V f = vsub(m, one), s = vdiv(f, vadd(m, one));
    V z = vmul(s, s), h = vmul(vset((R)0.5), vmul(f, f));
    V p = vadd(vmul(s, vfma(z, vpoly(z, FN(log_c)), h)), more);
    /* k ln2 + f - (h - p): the two large ones first, ln 2 split so that its part times k is exact */
#if XENT_REAL == 32
    V top = vmul(k, vset(0x1.62e4p-1f)), rest = vsub(vfma(k, vset(0x1.7f7d1cp-20f), p), h);
#else
    V top = vmul(k, vset(0x1.62e42fefa2000p-1)), rest = vsub(vfma(k, vset(0x1.9ef35793c7673p-41), p), h);
#endif
    V large = vadd(top, f);
    rest = vadd(rest, vadd(vsub(top, large), f));
    V r = vadd(large, rest);
    *low = vadd(vsub(large, r), rest);
    return r;
}

#if VEC_TABLE16
/* x = m 2^k with m in [3/4, 3/2), z = m r - 1 with r the reciprocal of the nearest j/16, log x = k ln2 - log r + log1p z: no
 * division, exact where x is near 1 (r = 1), and right for 0, infinity and negative numbers by what m and k are then. j = 12
 * to 15 come last in the tables, j = 25 to 27 do not occur. Each r is the one near 16/j whose logarithm is nearly a machine
 * number (Gal's method): a single table is as good as one in two parts. */
static const R FN(log_r)[16] = {
#if XENT_REAL == 32
    0x1.0p+0f,      0x1.e1f452p-1f, 0x1.c711d4p-1f, 0x1.af4bf8p-1f, 0x1.99a968p-1f, 0x1.8624d2p-1f,
    0x1.746c6cp-1f, 0x1.63ee68p-1f, 0x1.552794p-1f, 0x1.0p+0f,      0x1.0p+0f,      0x1.0p+0f,
    0x1.552324p+0f, 0x1.3b20d8p+0f, 0x1.248eeep+0f, 0x1.11031cp+0f};
#else
    0x1.0000000000000p+0, 0x1.e1e1e66861e1ep-1, 0x1.c71c774f1c71cp-1, 0x1.af286a001af28p-1,
    0x1.9999995e9999ap-1, 0x1.8618608d98618p-1, 0x1.745d139751746p-1, 0x1.642c83f932164p-1,
    0x1.555552edd5555p-1, 0x1.0000000000000p+0, 0x1.0000000000000p+0, 0x1.0000000000000p+0,
    0x1.5555569195555p+0, 0x1.3b13afba53b14p+0, 0x1.24924aaad2492p+0, 0x1.1111133e91111p+0};
#endif
static const R FN(log_l)[16] = {
#if XENT_REAL == 32
    0x0.0p+0f,       0x1.ef69ap-5f,   0x1.e2d004p-4f,  0x1.5f4a34p-3f, 0x1.c8b076p-3f, 0x1.165524p-2f,
    0x1.45ee94p-2f,  0x1.745024p-2f,  0x1.9fbb8cp-2f,  0x0.0p+0f,      0x0.0p+0f,      0x0.0p+0f,
    -0x1.25ff82p-2f, -0x1.a9944ep-3f, -0x1.11616ap-3f, -0x1.07882ap-4f};
#else
    0x0.0p+0,
    0x1.f0a2bf1296870p-5,
    0x1.e270451aaf7c1p-4,
    0x1.5ff30f89f941ep-3,
    0x1.c8ff7da0a9a21p-3,
    0x1.1675cd470a61cp-2,
    0x1.4618c641a5f8fp-2,
    0x1.739d83ff4d031p-2,
    0x1.9f324602798b5p-2,
    0x0.0p+0,
    0x0.0p+0,
    0x0.0p+0,
    -0x1.269624c80db76p-2,
    -0x1.a93eca03cd986p-3,
    -0x1.1178f2ce3e408p-3,
    -0x1.0859ac04637f0p-4};
#endif
/* log x in two parts. exact: what the larger one rounds is in the other, too. */
INLINE V FN(vlog_parts)(V x, const bool exact, V *rest) {
    const V one = vset((R)1);
    V m = vmantissa(x), t = vadd(m, vset(XENT_REAL == 32 ? (R)0x1.8p19 : (R)0x1.8p48)); /* j in the low bits */
    V k = vexponent(x), z = vfma(m, vlookup16(FN(log_r), t), vset((R)-1));
    k = vsel(mlt(m, one), vadd(k, one), k);
#if XENT_REAL == 32
    V q = vset(0.2002601f);
    q = vfma(q, z, vset(-0.25030345f));
    q = vfma(q, z, vset(0.33333328f));
    q = vfma(q, z, vset(-0.49999994f));
    const V ln2 = vset(0x1.62e42ep-1f), low = vset(0x1.efa39ep-25f);
#else
    V q = vset(-0.10034175720349992);
    q = vfma(q, z, vset(0.11148392596322762));
    q = vfma(q, z, vset(-0.1249995335567167));
    q = vfma(q, z, vset(0.14285663402999482));
    q = vfma(q, z, vset(-0.16666666690235268));
    q = vfma(q, z, vset(0.20000000025710082));
    q = vfma(q, z, vset(-0.24999999999996786));
    q = vfma(q, z, vset(0.3333333333332983));
    q = vfma(q, z, vset(-0.5));
    const V ln2 = vset(0x1.62e42fefa39efp-1), low = vset(0x1.abc9e3b39803fp-56);
#endif
    V l = vlookup16(FN(log_l), t), top = vfma(k, ln2, l);
    *rest = vfma(k, low, vfma(vmul(z, z), q, z));
    if (exact)
        *rest = vadd(*rest, vadd(vfma(k, ln2, vsub(vset((R)0), top)), l));
    return top;
}
static inline V FN(vlog)(V x) {
    V rest, top = FN(vlog_parts)(x, false, &rest);
    return vadd(top, rest);
}
#else
INLINE V FN(vlog_parts)(V x, const bool exact, V *rest) {
    V r = FN(vlog_normal)(x, vset((R)0), rest);
    (void)exact;
    r = vsel(mlt(x, vset(INF)), r, x); /* inf, NaN */
    r = vsel(meq(x, vset((R)0)), vset(-INF), r);
    return vsel(mlt(x, vset((R)0)), vset((R)NAN), r);
}
static inline V FN(vlog)(V x) {
    V rest;
    return FN(vlog_parts)(x, false, &rest);
}
#endif

/* exp(u) - 1 - u for -1 <= u <= 2: all of it, relative to itself. */
static inline V FN(vphi)(V u) {
    return vmul(vmul(u, u), vpoly(u, FN(phi_c)));
}

/* exp(e), exp(e) - 1 and exp(e) - 1 - e, each to full relative accuracy. */
INLINE V FN(vexpm1s)(V e, V *m1, V *mx) {
    const V one = vset((R)1);
    M near = mand(mle(vset((R)-1), e), mle(e, vset((R)2)));
    V all = FN(vexp2ref)(vmin(vset((R)800), vmax(vset((R)-800), e)), vset((R)0)), far = vsub(all, one);
    *mx = vsel(near, FN(vphi)(e), vsub(far, e));
    *m1 = vsel(near, vadd(*mx, e), far);
    return all;
}

/* exp(-|x|) */
static inline V FN(vexp_minus_abs)(V x) {
    return FN(vexp2ref)(vmax(vset(-EXP_LOW), vsub(vset((R)0), vabs(x))), vset((R)0));
}

/* log(1 + e) for 0 <= e <= 1 */
static inline V FN(vlog1p_unit)(V e) {
    const V one = vset((R)1);
    V u = vadd(one, e), low;
    return FN(vlog_normal)(u, vsub(e, vsub(u, one)), &low); /* what u rounded away goes back in */
}

/* log(1 + z) for finite z > -1. rough: the last bits do not matter. */
INLINE V FN(vlog1p)(V z, const bool rough) {
    const V one = vset((R)1);
    V low, u = vadd(one, z); /* what u rounded away goes back in, relative to u */
    V lost = vsel(mlt(z, one), vsub(z, vsub(u, one)), vsub(one, vsub(u, z)));
    if (!rough)
        lost = vdiv(lost, u); /* else u is 1 where lost matters */
    return FN(vlog_normal)(u, lost, &low);
}

/* log1p(z) - z for |z| < 0.4: log1p(z) = 2 atanh(s), z - 2 s = z s. */
static const R FN(log1pmx_c)[] = {XENT_LOG1PMX_F64};
INLINE V FN(vlog1pmx)(V z) {
    V s = vdiv(z, vadd(z, vset((R)2))), s2 = vmul(s, s);
    return vmul(s, vsub(vmul(vpoly(s2, FN(log1pmx_c)), s2), z));
}
/* log1p(z) - 2 s of the same s. */
INLINE V FN(vlog1p_tail)(V s) {
    V s2 = vmul(s, s);
    return vmul(s, vmul(vpoly(s2, FN(log1pmx_c)), s2));
}

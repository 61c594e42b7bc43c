// clang-format Language: C
/* vec_neon.h: the vocabulary in 64-bit Arm's Advanced SIMD, 4 floats or 2 doubles. See vec.h for what each word
 * means. */
#undef V
#undef I
#undef M
#undef VN
#undef REAL
#undef BITS
#undef IR
#undef ibits
#undef ireal
#undef many
#undef mall
#if XENT_REAL == 32
#define V float32x4_t
#define I uint32x4_t
#define VN 4
#define IR uint32_t
#define REAL(op) op##_f32
#define BITS(op) op##_u32
#define ibits(v) vreinterpretq_u32_f32(v)
#define ireal(i) vreinterpretq_f32_u32(i)
#else
#define V float64x2_t
#define I uint64x2_t
#define VN 2
#define IR uint64_t
#define REAL(op) op##_f64
#define BITS(op) op##_u64
#define ibits(v) vreinterpretq_u64_f64(v)
#define ireal(i) vreinterpretq_f64_u64(i)
#endif
#define M I
#define VEC_FMA 1
#define VEC_SCALEF 0
#define VEC_TABLE16 0
#define VEC_F16 1

#define iset(x) BITS(vdupq_n)((IR)(x))
#define iadd(a, b) BITS(vaddq)(a, b)
#define isub(a, b) BITS(vsubq)(a, b)
#define ior(a, b) BITS(vorrq)(a, b)
#define ishl(a, n) BITS(vshlq_n)(a, n)
#define ishr(a, n) BITS(vshrq_n)(a, n)

#if XENT_REAL == 32
static inline uint16x4_t FN(four16)(const void *p) {
    uint16x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void FN(put_four16)(void *p, uint16x4_t v) {
    memcpy(p, &v, sizeof v);
}
#define iload16(p) vmovl_u16(FN(four16)(p))
#define istore16(p, i) FN(put_four16)(p, vmovn_u32(i))
#define vload_half(p) vcvt_f32_f16(vreinterpret_f16_u16(FN(four16)(p)))
#define vstore_half(p, v) FN(put_four16)(p, vreinterpret_u16_f16(vcvt_f16_f32(v)))
#endif

/* memcpy where vld1q would promise the compiler an aligned element; both are one instruction. */
static inline V FN(vload_)(const void *p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void FN(vstore_)(void *p, V v) {
    memcpy(p, &v, sizeof v);
}
/* n < VN <= 4 lanes are a pair, or one, or a pair and one: copies of a fixed size, where one of any size is a call. */
static inline V FN(vloadn_)(const void *p, int n, V fill) {
    const char *from = p;
    R a[4];
    memcpy(a, &fill, sizeof fill);
    if (n & 2)
        memcpy(a, from, 2 * sizeof(R));
    if (n & 1)
        memcpy(a + (n & 2), from + (n & 2) * sizeof(R), sizeof(R));
    return FN(vload_)(a);
}
static inline void FN(vstoren_)(void *p, int n, V v) {
    char *to = p;
    R a[4];
    memcpy(a, &v, sizeof v);
    if (n & 2)
        memcpy(to, a, 2 * sizeof(R));
    if (n & 1)
        memcpy(to + (n & 2) * sizeof(R), a + (n & 2), sizeof(R));
}
#define vset(x) REAL(vdupq_n)(x)
#define vload FN(vload_)
#define vloadn FN(vloadn_)
#define vstore FN(vstore_)
#define vstoren FN(vstoren_)
#define vstream vstore
#define vstream_end() ((void)0)

#define vadd(a, b) REAL(vaddq)(a, b)
#define vsub(a, b) REAL(vsubq)(a, b)
#define vmul(a, b) REAL(vmulq)(a, b)
#define vdiv(a, b) REAL(vdivq)(a, b)
#define vfma(a, b, c) REAL(vfmaq)(c, a, b)
#define vfnma(a, b, c) REAL(vfmsq)(c, a, b)

#define mlt(a, b) REAL(vcltq)(a, b)
#define mle(a, b) REAL(vcleq)(a, b)
#define meq(a, b) REAL(vceqq)(a, b)
#define mne(a, b) mnot(meq(a, b))
#define mand(a, b) BITS(vandq)(a, b)
#define mor(a, b) BITS(vorrq)(a, b)
#define mnot(a) BITS(veorq)(a, iset(-1))
#define vsel(m, a, b) REAL(vbslq)(m, a, b)
#define vif(m, a) ireal(mand(m, ibits(a)))
#if XENT_REAL == 32
#define many(m) (vmaxvq_u32(m) != 0)
#define mall(m) (vminvq_u32(m) != 0)
#else
#define many(m) (vmaxvq_u32(vreinterpretq_u32_u64(m)) != 0)
#define mall(m) (vminvq_u32(vreinterpretq_u32_u64(m)) != 0)
#endif

/* vmaxq gives NaN where either operand is one, vmaxnmq where both are: neither is the rule of vec.h. */
static inline V FN(vmax_)(V a, V b) {
    return vsel(mlt(b, a), a, b);
}
static inline V FN(vmin_)(V a, V b) {
    return vsel(mlt(a, b), a, b);
}
#define vmax FN(vmax_)
#define vmin FN(vmin_)
#define vabs(a) REAL(vabsq)(a)
#define vround(a) REAL(vrndnq)(a)
#define vziplo(a, b) REAL(vzip1q)(a, b)
#define vziphi(a, b) REAL(vzip2q)(a, b)

/* a vector is one piece */
#define VP 1
#define P V
#define PN VN
#define pload vload
#define pstore vstore
#define ploadn(p, n) vloadn(p, n, vset((R)0))
#define pstoren vstoren
#define vsplit(v, p) ((p)[0] = (v))
#define vjoin(p) ((p)[0])
#define vturn FN(vturn_)
static inline void FN(vturn_)(V *a) {
    _Pragma("GCC unroll 2") for (int n = 1; n < VN; n *= 2) {
        V b[VN];
        _Pragma("GCC unroll 2") for (int i = 0; i < VN / 2; i++) {
            b[2 * i] = vziplo(a[i], a[i + VN / 2]);
            b[2 * i + 1] = vziphi(a[i], a[i + VN / 2]);
        }
        memcpy(a, b, sizeof b);
    }
}

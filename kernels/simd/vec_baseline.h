/* vec_baseline.h: the vocabulary in the compiler's own 16-byte vectors (GCC and Clang): runs on any processor. There may be no
 * fused multiply-add, so VEC_FMA is 0 and vmath.h splits ln 2 finer. See vec.h for what each word means. */
#undef V
#undef I
#undef M
#undef VN
#undef many
#undef IR
#if XENT_REAL == 32
#define VN 4
#define IR int32_t
#else
#define VN 2
#define IR int64_t
#endif
#define VEC_FMA 0
#define VEC_SCALEF 0
#define VEC_TABLE16 0
#define VEC_F16 0

typedef R FN(vec) __attribute__((vector_size(16)));
typedef IR FN(ivec) __attribute__((vector_size(16)));
#define V FN(vec)
#define I FN(ivec)
#define M FN(ivec)

#define ibits(v) ((I)(v))
#define ireal(i) ((V)(i))
static inline I FN(iset_)(IR x) {
    I v;
    for (int l = 0; l < VN; l++)
        v[l] = x;
    return v;
}
#define iset FN(iset_)
#define iadd(a, b) ((I)((FN(uvec))(a) + (FN(uvec))(b))) /* unsigned: may wrap */
#define isub(a, b) ((I)((FN(uvec))(a) - (FN(uvec))(b)))
#define ior(a, b) ((a) | (b))
#define ishl(a, n) ((I)((FN(uvec))(a) << (n)))
#if XENT_REAL == 32
typedef uint32_t FN(uvec) __attribute__((vector_size(16)));
#else
typedef uint64_t FN(uvec) __attribute__((vector_size(16)));
#endif
#define ishr(a, n) ((I)((FN(uvec))(a) >> (n)))

#if XENT_REAL == 32
typedef uint16_t FN(four16) __attribute__((vector_size(8)));
static inline I FN(iload16_)(const void *p) {
    FN(four16) v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, I);
}
static inline void FN(istore16_)(void *p, I i) {
    FN(four16) v = __builtin_convertvector(i, FN(four16));
    memcpy(p, &v, sizeof v);
}
#define iload16 FN(iload16_)
#define istore16 FN(istore16_)
#endif

static inline V FN(vset_)(R x) {
    V v;
    for (int l = 0; l < VN; l++)
        v[l] = x;
    return v;
}
static inline V FN(vload_)(const void *p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline V FN(vloadn_)(const void *p, int n, V fill) {
    memcpy(&fill, p, (size_t)n * sizeof(R));
    return fill;
}
static inline void FN(vstore_)(void *p, V v) {
    memcpy(p, &v, sizeof v);
}
static inline void FN(vstoren_)(void *p, int n, V v) {
    memcpy(p, &v, (size_t)n * sizeof(R));
}
#define vset FN(vset_)
#define vload FN(vload_)
#define vloadn FN(vloadn_)
#define vstore FN(vstore_)
#define vstoren FN(vstoren_)
#define vstream vstore
#define vstream_end() ((void)0)

#define vadd(a, b) ((a) + (b))
#define vsub(a, b) ((a) - (b))
#define vmul(a, b) ((a) * (b))
#define vdiv(a, b) ((a) / (b))
#define vfma(a, b, c) ((a) * (b) + (c))
#define vfnma(a, b, c) ((c) - (a) * (b))

#define mlt(a, b) ((M)((a) < (b)))
#define mle(a, b) ((M)((a) <= (b)))
#define meq(a, b) ((M)((a) == (b)))
#define mne(a, b) ((M)((a) != (b)))
#define mand(a, b) ((a) & (b))
#define mor(a, b) ((a) | (b))
#define mnot(a) (~(a))
#define vsel(m, a, b) ireal(((m) & ibits(a)) | (~(m) & ibits(b)))
#define vif(m, a) ireal((m) & ibits(a))
static inline bool FN(many_)(M m) {
    IR any = 0;
    for (int l = 0; l < VN; l++)
        any |= m[l];
    return any != 0;
}
static inline bool FN(mall_)(M m) {
    IR all = -1;
    for (int l = 0; l < VN; l++)
        all &= m[l];
    return all != 0;
}
#define many FN(many_)
#define mall FN(mall_)

static inline V FN(vmax_)(V a, V b) {
    return vsel(mlt(b, a), a, b);
}
static inline V FN(vmin_)(V a, V b) {
    return vsel(mlt(a, b), a, b);
}
#define vmax FN(vmax_)
#define vmin FN(vmin_)
#define vabs(a) ireal(ibits(a) & ~ibits(vset((R) - 0.0)))
/* Exact for |a| < 2^22 (2^51). */
#define vround(a) (((a) + vset(ROUND_MAGIC)) - vset(ROUND_MAGIC))
static inline V FN(vzip_)(V a, V b, int half) {
    V v;
    for (int l = 0; l < VN / 2; l++) {
        v[2 * l] = a[l + half];
        v[2 * l + 1] = b[l + half];
    }
    return v;
}
#define vziplo(a, b) FN(vzip_)(a, b, 0)
#define vziphi(a, b) FN(vzip_)(a, b, VN / 2)

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

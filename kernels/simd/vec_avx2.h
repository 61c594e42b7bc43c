// clang-format Language: C
/* vec_avx2.h: the vocabulary in AVX2, FMA and F16C, 8 floats or 4 doubles. See vec.h for what each word means. */
#undef V
#undef I
#undef M
#undef VN
#undef many
#undef IR
#undef PS
#undef EPI
#undef P
#undef PN
#undef PS128
#undef vturn
#undef vjoin
#undef vsplit
#undef ibits
#undef ireal
#undef iset
#if XENT_REAL == 32
#define V __m256
#define VN 8
#define IR int32_t
#define PS(op) _mm256_##op##_ps
#define EPI(op) _mm256_##op##_epi32
#define ibits(v) _mm256_castps_si256(v)
#define ireal(i) _mm256_castsi256_ps(i)
#define iset(x) _mm256_set1_epi32(x)
#else
#define V __m256d
#define VN 4
#define IR int64_t
#define PS(op) _mm256_##op##_pd
#define EPI(op) _mm256_##op##_epi64
#define ibits(v) _mm256_castpd_si256(v)
#define ireal(i) _mm256_castsi256_pd(i)
#define iset(x) _mm256_set1_epi64x(x)
#endif
#define I __m256i
#define M V
#define VEC_FMA 1
#define VEC_SCALEF 0
#define VEC_TABLE16 0
#define VEC_F16 1

#define iadd(a, b) EPI(add)(a, b)
#define isub(a, b) EPI(sub)(a, b)
#define ior(a, b) _mm256_or_si256(a, b)
#define ishl(a, n) EPI(slli)(a, n)
#define ishr(a, n) EPI(srli)(a, n)

#define iload16(p) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define istore16(p, i)                                                                                                 \
    _mm_storeu_si128((__m128i *)(p), _mm_packus_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1)))
#define vload_half(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define vstore_half(p, v) _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))

static inline I FN(lane_mask)(int n) {
    static const IR row[2 * VN] = {
#if XENT_REAL == 32
        -1, -1, -1, -1, -1,
        -1, -1, -1
#else
        -1, -1, -1, -1
#endif
    };
    return _mm256_loadu_si256((const __m256i *)(row + VN - n));
}
static inline V FN(vloadn_)(const void *p, int n, V fill) {
    I m = FN(lane_mask)(n);
    return PS(blendv)(fill, PS(maskload)((const R *)p, m), ireal(m));
}
static inline void FN(vstoren_)(void *p, int n, V v) {
    PS(maskstore)((R *)p, FN(lane_mask)(n), v);
}
#define vset(x) PS(set1)(x)
#define vload(p) PS(loadu)((const R *)(p))
#define vloadn FN(vloadn_)
#define vstore(p, v) PS(storeu)((R *)(p), v)
#define vstoren FN(vstoren_)

#define vstream(p, v) PS(stream)((R *)(p), v)
#define vstream_end() _mm_sfence()

#define vadd(a, b) PS(add)(a, b)
#define vsub(a, b) PS(sub)(a, b)
#define vmul(a, b) PS(mul)(a, b)
#define vdiv(a, b) PS(div)(a, b)
#define vfma(a, b, c) PS(fmadd)(a, b, c)
#define vfnma(a, b, c) PS(fnmadd)(a, b, c)

#define mlt(a, b) PS(cmp)(a, b, _CMP_LT_OQ)
#define mle(a, b) PS(cmp)(a, b, _CMP_LE_OQ)
#define meq(a, b) PS(cmp)(a, b, _CMP_EQ_OQ)
#define mne(a, b) PS(cmp)(a, b, _CMP_NEQ_UQ)
#define mand(a, b) PS(and)(a, b)
#define mor(a, b) PS(or)(a, b)
#define mnot(a) PS(xor)(a, ireal(iset(-1)))
#define vsel(m, a, b) PS(blendv)(b, a, m)
#define vif(m, a) PS(and)(m, a)
#define many(m) (PS(movemask)(m) != 0)
#define mall(m) (PS(movemask)(m) == (1 << VN) - 1)

#define vmax(a, b) PS(max)(a, b)
#define vmin(a, b) PS(min)(a, b)
#define vabs(a) PS(andnot)(vset((R) - 0.0), a)
#define vround(a) PS(round)(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
/* unpacklo and unpackhi work on each half by itself */
#define vziplo(a, b) PS(permute2f128)(PS(unpacklo)(a, b), PS(unpackhi)(a, b), 0x20)
#define vziphi(a, b) PS(permute2f128)(PS(unpacklo)(a, b), PS(unpackhi)(a, b), 0x31)

#define VP 2
#if XENT_REAL == 32
#define P __m128
#define PN 4
#define PS128(op) _mm_##op##_ps
#define vjoin(p) _mm256_set_m128((p)[1], (p)[0])
#define vturn(a)                                                                                                       \
    do {                                                                                                               \
        V lo_ = PS(unpacklo)((a)[0], (a)[1]), hi_ = PS(unpackhi)((a)[0], (a)[1]);                                      \
        V lo2_ = PS(unpacklo)((a)[2], (a)[3]), hi2_ = PS(unpackhi)((a)[2], (a)[3]);                                    \
        (a)[0] = PS(shuffle)(lo_, lo2_, 0x44);                                                                         \
        (a)[1] = PS(shuffle)(lo_, lo2_, 0xee);                                                                         \
        (a)[2] = PS(shuffle)(hi_, hi2_, 0x44);                                                                         \
        (a)[3] = PS(shuffle)(hi_, hi2_, 0xee);                                                                         \
    } while (0)
#else
#define P __m128d
#define PN 2
#define PS128(op) _mm_##op##_pd
#define vjoin(p) _mm256_set_m128d((p)[1], (p)[0])
#define vturn(a)                                                                                                       \
    do {                                                                                                               \
        V lo_ = PS(unpacklo)((a)[0], (a)[1]);                                                                          \
        (a)[1] = PS(unpackhi)((a)[0], (a)[1]);                                                                         \
        (a)[0] = lo_;                                                                                                  \
    } while (0)
#endif
#define vsplit(v, p)                                                                                                   \
    do {                                                                                                               \
        (p)[0] = PS(extractf128)(v, 0);                                                                                \
        (p)[1] = PS(extractf128)(v, 1);                                                                                \
    } while (0)
#define pload(p) PS128(loadu)((const R *)(p))
#define pstore(p, v) PS128(storeu)((R *)(p), v)
static inline P FN(ploadn_)(const void *p, int n) {
    R a[PN] = {0};
    memcpy(a, p, (size_t)n * sizeof(R));
    return pload(a);
}
static inline void FN(pstoren_)(void *p, int n, P v) {
    R a[PN];
    pstore(a, v);
    memcpy(p, a, (size_t)n * sizeof(R));
}
#define ploadn FN(ploadn_)
#define pstoren FN(pstoren_)

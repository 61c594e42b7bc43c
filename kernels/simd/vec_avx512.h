/* vec_avx512.h: the vocabulary in AVX-512 (F, BW, DQ, VL), 16 floats or 8 doubles. See vec.h for what each word means. */
#undef V
#undef I
#undef M
#undef VN
#undef many
#undef IR
#undef PS
#undef PSM
#undef EPI
#undef ibits
#undef ireal
#undef iset
#undef vlookup16
#undef zip_order_
#undef P
#undef PN
#undef PS128
#undef vjoin
#undef vsplit
#undef vturn
#undef ploadn
#undef pstoren
#if XENT_REAL == 32
#define V __m512
#define M __mmask16
#define VN 16
#define PS(op) _mm512_##op##_ps
#define PSM(op) _mm512_##op##_ps_mask
#define EPI(op) _mm512_##op##_epi32
#define ibits(v) _mm512_castps_si512(v)
#define ireal(i) _mm512_castsi512_ps(i)
#define iset(x) _mm512_set1_epi32(x)
/* table[the low four bits of t's bits] */
#define vlookup16(table, t) _mm512_permutexvar_ps(_mm512_castps_si512(t), _mm512_loadu_ps(table))
#else
#define V __m512d
#define M __mmask8
#define VN 8
#define PS(op) _mm512_##op##_pd
#define PSM(op) _mm512_##op##_pd_mask
#define EPI(op) _mm512_##op##_epi64
#define ibits(v) _mm512_castpd_si512(v)
#define ireal(i) _mm512_castsi512_pd(i)
#define iset(x) _mm512_set1_epi64(x)
#define vlookup16(table, t)                                                                                            \
    _mm512_permutex2var_pd(_mm512_loadu_pd(table), _mm512_castpd_si512(t), _mm512_loadu_pd((table) + 8))
#endif
#define I __m512i
#define VEC_FMA 1
#define VEC_SCALEF 1
#define VEC_TABLE16 1
#define VEC_F16 1

#define iadd(a, b) EPI(add)(a, b)
#define isub(a, b) EPI(sub)(a, b)
#define ior(a, b) _mm512_or_si512(a, b)
#define ishl(a, n) EPI(slli)(a, n)
#define ishr(a, n) EPI(srli)(a, n)

#define iload16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p)))
#define istore16(p, i) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtepi32_epi16(i))
#define vload_half(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define vstore_half(p, v) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))

#define vset(x) PS(set1)(x)
#define vload(p) PS(loadu)((const R *)(p))
#define vloadn(p, n, fill) PS(mask_loadu)(fill, (M)((1u << (n)) - 1u), (const R *)(p))
#define vstore(p, v) PS(storeu)((R *)(p), v)
#define vstoren(p, n, v) PS(mask_storeu)((R *)(p), (M)((1u << (n)) - 1u), v)

#define vstream(p, v) PS(stream)((R *)(p), v)
#define vstream_end() _mm_sfence()

#define vadd(a, b) PS(add)(a, b)
#define vsub(a, b) PS(sub)(a, b)
#define vmul(a, b) PS(mul)(a, b)
#define vdiv(a, b) PS(div)(a, b)
#define vfma(a, b, c) PS(fmadd)(a, b, c)
#define vfnma(a, b, c) PS(fnmadd)(a, b, c)

#define mlt(a, b) PSM(cmp)(a, b, _CMP_LT_OQ)
#define mle(a, b) PSM(cmp)(a, b, _CMP_LE_OQ)
#define meq(a, b) PSM(cmp)(a, b, _CMP_EQ_OQ)
#define mne(a, b) PSM(cmp)(a, b, _CMP_NEQ_UQ)
#define mand(a, b) ((M)((a) & (b)))
#define mor(a, b) ((M)((a) | (b)))
#define mnot(a) ((M) ~(a))
#define vsel(m, a, b) PS(mask_blend)(m, b, a)
#define vif(m, a) PS(maskz_mov)(m, a)
#define many(m) ((m) != 0)
#define mall(m) ((m) == (M) - 1)

#define vmax(a, b) PS(max)(a, b)
#define vmin(a, b) PS(min)(a, b)
#define vabs(a) PS(abs)(a)
#define vround(a) PS(roundscale)(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
/* p 2^floor(k) for k of any size, and the exponent and mantissa of x > 0 (denormals too): one instruction each. */
#define vldexp(p, k) PS(scalef)(p, k)
#define vexponent(x) PS(getexp)(x)
#define vmantissa(x) PS(getmant)(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan)
#if XENT_REAL == 32
#define zip_order_(h)                                                                                                  \
    _mm512_setr_epi32(h, 16 + h, 1 + h, 17 + h, 2 + h, 18 + h, 3 + h, 19 + h, 4 + h, 20 + h, 5 + h, 21 + h, 6 + h,     \
                      22 + h, 7 + h, 23 + h)
#else
#define zip_order_(h) _mm512_setr_epi64(h, 8 + h, 1 + h, 9 + h, 2 + h, 10 + h, 3 + h, 11 + h)
#endif
#define vziplo(a, b) PS(permutex2var)(a, zip_order_(0), b)
#define vziphi(a, b) PS(permutex2var)(a, zip_order_(VN / 2), b)

#define VP 4
#if XENT_REAL == 32
#define P __m128
#define PN 4
#define PS128(op) _mm_##op##_ps
#define vsplit(v, p)                                                                                                   \
    do {                                                                                                               \
        (p)[0] = _mm512_castps512_ps128(v);                                                                            \
        (p)[1] = _mm512_extractf32x4_ps(v, 1);                                                                         \
        (p)[2] = _mm512_extractf32x4_ps(v, 2);                                                                         \
        (p)[3] = _mm512_extractf32x4_ps(v, 3);                                                                         \
    } while (0)
#define vjoin(p)                                                                                                       \
    _mm512_insertf32x4(_mm512_insertf32x4(_mm512_insertf32x4(_mm512_castps128_ps512((p)[0]), (p)[1], 1), (p)[2], 2),   \
                       (p)[3], 3)
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
#define vsplit(v, p)                                                                                                   \
    do {                                                                                                               \
        (p)[0] = _mm512_castpd512_pd128(v);                                                                            \
        (p)[1] = _mm512_extractf64x2_pd(v, 1);                                                                         \
        (p)[2] = _mm512_extractf64x2_pd(v, 2);                                                                         \
        (p)[3] = _mm512_extractf64x2_pd(v, 3);                                                                         \
    } while (0)
#define vjoin(p)                                                                                                       \
    _mm512_insertf64x2(_mm512_insertf64x2(_mm512_insertf64x2(_mm512_castpd128_pd512((p)[0]), (p)[1], 1), (p)[2], 2),   \
                       (p)[3], 3)
#define vturn(a)                                                                                                       \
    do {                                                                                                               \
        V lo_ = PS(unpacklo)((a)[0], (a)[1]);                                                                          \
        (a)[1] = PS(unpackhi)((a)[0], (a)[1]);                                                                         \
        (a)[0] = lo_;                                                                                                  \
    } while (0)
#endif
#define pload(p) PS128(loadu)((const R *)(p))
#define pstore(p, v) PS128(storeu)((R *)(p), v)
#define ploadn(p, n) PS128(maskz_loadu)((__mmask8)((1u << (n)) - 1u), (const R *)(p))
#define pstoren(p, n, v) PS128(mask_storeu)((R *)(p), (__mmask8)((1u << (n)) - 1u), v)

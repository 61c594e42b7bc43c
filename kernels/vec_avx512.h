/* vec_avx512.h: the vocabulary in AVX-512 (F, BW, DQ, VL), 16 floats or 8 doubles. See vec.h for what each word means. */
#undef V
#undef I
#undef M
#undef VN
#undef IR
#undef PS
#undef PSM
#undef vlookup16
#if XENT_REAL == 32
#define V __m512
#define M __mmask16
#define VN 16
#define PS(op) _mm512_##op##_ps
#define PSM(op) _mm512_##op##_ps_mask
/* table[the low four bits of t's bits] */
#define vlookup16(table, t) _mm512_permutexvar_ps(_mm512_castps_si512(t), _mm512_loadu_ps(table))
#else
#define V __m512d
#define M __mmask8
#define VN 8
#define PS(op) _mm512_##op##_pd
#define PSM(op) _mm512_##op##_pd_mask
#define vlookup16(table, t)                                                                                            \
    _mm512_permutex2var_pd(_mm512_loadu_pd(table), _mm512_castpd_si512(t), _mm512_loadu_pd((table) + 8))
#endif
#define VEC_FMA 1
#define VEC_SCALEF 1
#define VEC_TABLE16 1

#define vset(x) PS(set1)(x)
#define vload(p) PS(loadu)((const R *)(p))
#define vloadn(p, n, fill) PS(mask_loadu)(fill, (M)((1u << (n)) - 1u), (const R *)(p))
#define vstore(p, v) PS(storeu)((R *)(p), v)
#define vstoren(p, n, v) PS(mask_storeu)((R *)(p), (M)((1u << (n)) - 1u), v)

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

#define vmax(a, b) PS(max)(a, b)
#define vmin(a, b) PS(min)(a, b)
#define vabs(a) PS(abs)(a)
#define vround(a) PS(roundscale)(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
/* p 2^floor(k) for k of any size, and the exponent and mantissa of x > 0 (denormals too): one instruction each. */
#define vldexp(p, k) PS(scalef)(p, k)
#define vexponent(x) PS(getexp)(x)

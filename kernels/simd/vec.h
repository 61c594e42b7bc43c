/* vec.h: the vocabulary's meaning. One file an instruction set supplies it for the current XENT_REAL (32 or 64); the
 * mathematics (vmath.h, math/, walk/) is written in these words alone.
 *
 *   V, M, I, VN             a vector, a mask, an integer vector of the same width, lanes in a vector
 *   vload vstore vset       memory at any alignment; all lanes alike
 *   vloadn vstoren          the first n lanes only (0 < n < VN): the rest is not touched; a load fills with `fill`
 *   vstream                 a store to an address that is a multiple of the vector, past the caches where that exists;
 *                           vstream_end() before anyone else reads it
 *   vadd vsub vmul vdiv     vfma(a, b, c) = a b + c, vfnma(a, b, c) = c - a b (one rounding where VEC_FMA is 1)
 *   vmax vmin               the SECOND operand where either is NaN: vmax(x, acc) drops a NaN x, vmax(lo, x) keeps it
 *   mlt mle meq mne         comparisons; NaN makes all false but mne
 *   mand mor mnot           vsel(m, a, b) = m ? a : b, vif(m, a) = m ? a : 0 (also where a is NaN or infinite)
 *   many(m) mall(m)         whether any lane is set, whether all are
 *   vabs vround             vround: to nearest even, |a| < 2^22
 *   vziplo vziphi           the lanes of a and b by turns, from the first half of both or the second
 *   P, PN, VP               a 16-byte piece of a vector, its lanes, and how many make a vector
 *   pload pstore            ... in memory; ploadn pstoren: the first n lanes (0 < n < PN), the rest is not touched
 *   vjoin(p) vsplit(v, p)   VP pieces to a vector, and back
 *   vturn(a)                PN vectors: in each piece, lane j of a[i] becomes lane i of a[j]
 *   vldexp vexponent        with VEC_SCALEF: p 2^floor(k); the exponent of x > 0, both for denormals too
 *   vmantissa               with VEC_SCALEF: of x > 0, in [3/4, 3/2); 1 of 0 and of infinity, NaN of x < 0
 *   iload16 istore16        for floats: VN unsigned 16-bit integers at any alignment, one in the low half of each lane
 *   vload_half vstore_half  with VEC_F16, for floats: VN float16 at any alignment; rounds once, to nearest even
 *   vlookup16               with VEC_TABLE16: a table of 16 reals, indexed by the low bits of a vector
 */
#undef R
#undef FN
#undef FN2_
#undef FN3_
#undef INF
#undef ROUND_MAGIC
#undef MANT_BITS
#undef EXP_BIAS
#if XENT_REAL == 32
#define R float
#define FN2_(name, isa) name##_##isa##_f32
#define ROUND_MAGIC 0x1.8p23f
#define MANT_BITS 23
#define EXP_BIAS 127
#else
#define R double
#define FN2_(name, isa) name##_##isa##_f64
#define ROUND_MAGIC 0x1.8p52
#define MANT_BITS 52
#define EXP_BIAS 1023
#endif
#define FN3_(name, isa) FN2_(name, isa)
#define FN(name) FN3_(name, XENT_ISA_NAME)
#undef FN64
#define FN64_2_(name, isa) name##_##isa##_f64
#define FN64_3_(name, isa) FN64_2_(name, isa)
#define FN64(name) FN64_3_(name, XENT_ISA_NAME)
#define INF ((R)INFINITY)

/* convert.h: 16-bit floats, VN at a time and in rows. A bfloat16 is the upper half of a float32; float16 is converted by an
 * instruction where VEC_F16 says that there is one. Into storage they are rounded once, to nearest even; a NaN stays one. */
#if XENT_REAL == 32
INLINE V FN(vload_bf16)(const void *p) {
    return ireal(ishl(iload16(p), 16));
}

/* Not AVX512_BF16's instruction, which takes denormals for 0. */
INLINE void FN(vstore_bf16)(void *p, V v) {
    I b = ibits(v), odd = ishr(ishl(b, 15), 31); /* of what is kept: a tie goes to the even neighbour */
    V rounded = ireal(iadd(iadd(b, iset(0x7fff)), odd)), quiet = ireal(ior(b, iset(0x400000)));
    istore16(p, ishr(ibits(vsel(mne(v, v), quiet, rounded)), 16));
}

#if !VEC_F16
INLINE V FN(vload_half_)(const void *p) {
    I h = iload16(p), rest = ishr(ishl(h, 17), 4); /* exponent and digits, where a float has them */
    V v = vmul(ireal(rest), vset(0x1p112f));       /* so much do the biases differ; denormals come out right, too */
    v = vsel(mle(vset(0x1p16f), v), ireal(ior(rest, iset(0x7f800000))), v);
    return ireal(ior(ibits(v), ishl(ishr(h, 15), 31)));
}

INLINE void FN(vstore_half_)(void *p, V v) {
    V a = vabs(v);
    I b = ibits(vmin(a, vset(0x1p16f))), odd = ishr(ishl(b, 18), 31);
    I normal = isub(ishr(iadd(iadd(b, iset(0xfff)), odd), 13), iset((127 - 15) << 10));
    I denormal = isub(ibits(vadd(a, vset(0.5f))), ibits(vset(0.5f))); /* the last digit of 0.5 is 2^-24 */
    I nan = ior(ishr(ishl(ibits(a), 9), 22), iset(0x7e00));
    V rest = vsel(mlt(a, vset(0x1p-14f)), ireal(denormal), ireal(normal));
    rest = vsel(mne(v, v), ireal(nan), rest);
    istore16(p, ior(ibits(rest), ishl(ishr(ibits(v), 31), 15)));
}
#define vload_half FN(vload_half_)
#define vstore_half FN(vstore_half_)
#endif

/* VN elements of dtype XENT_F16 or XENT_BF16. */
INLINE V FN(load16)(const char *p, int dtype) {
    return dtype == XENT_BF16 ? FN(vload_bf16)(p) : vload_half(p);
}

INLINE void FN(store16)(char *p, int dtype, V v) {
    if (dtype == XENT_BF16)
        FN(vstore_bf16)(p, v);
    else
        vstore_half(p, v);
}
#else /* computed in doubles only beside an operand of doubles: one lane at a time will do */
INLINE V FN(load16)(const char *p, int dtype) {
    uint16_t h[VN];
    R a[VN];
    memcpy(h, p, sizeof h);
    for (int l = 0; l < VN; l++)
        a[l] = (R)(dtype == XENT_BF16 ? bf16_to_float(h[l]) : half_to_float(h[l]));
    return vload(a);
}

INLINE void FN(store16)(char *p, int dtype, V v) {
    uint16_t h[VN];
    R a[VN];
    vstore(a, v);
    for (int l = 0; l < VN; l++)
        h[l] = dtype == XENT_BF16 ? double_to_bf16(a[l]) : double_to_half(a[l]);
    memcpy(p, h, sizeof h);
}
#endif

/* A row of at least one vector whose elements are neighbours in both places. The last vector may overlap the one before. A
 * tile is a burst of loads or stores with arithmetic in between, which the hardware's own prefetching does not follow. */
INLINE void FN(widen_vectors)(const char *p, int dtype, ptrdiff_t count, R *dst) {
    for (ptrdiff_t j = 0; j + VN <= count; j += VN) {
        __builtin_prefetch(p + 2 * (j + TILE_REALS));
        vstore(dst + j, FN(load16)(p + 2 * j, dtype));
    }
    vstore(dst + count - VN, FN(load16)(p + 2 * (count - VN), dtype));
}

INLINE void FN(narrow_vectors)(char *p, int dtype, ptrdiff_t count, const R *src) {
    for (ptrdiff_t j = 0; j + VN <= count; j += VN) {
        __builtin_prefetch(p + 2 * (j + TILE_REALS), 1);
        FN(store16)(p + 2 * j, dtype, vload(src + j));
    }
    FN(store16)(p + 2 * (count - VN), dtype, vload(src + count - VN));
}

/* dst[j * dcs] = element j of a row of 16-bit floats; nothing beside them is read. */
static void FN(widen_row)(const char *p, ptrdiff_t cs, int dtype, int swapped, ptrdiff_t count, R *dst, ptrdiff_t dcs) {
    if (cs == 2 && !swapped && dcs == 1 && count >= VN) {
        FN(widen_vectors)(p, dtype, count, dst);
        return;
    }
    for (ptrdiff_t j = 0; j < count; j += VN) {
        const int n = count - j < VN ? (int)(count - j) : VN;
        uint16_t part[VN] = {0};
        R lanes[VN];
        for (int l = 0; l < n; l++) {
            memcpy(&part[l], p + (j + l) * cs, 2);
            part[l] = swapped ? __builtin_bswap16(part[l]) : part[l];
        }
        vstore(lanes, FN(load16)((const char *)part, dtype));
        for (int l = 0; l < n; l++)
            dst[(j + l) * dcs] = lanes[l];
    }
}

/* Element j of a row of 16-bit floats = src[j * scs]; nothing beside them is written. */
static void FN(narrow_row)(char *p, ptrdiff_t cs, int dtype, int swapped, ptrdiff_t count, const R *src,
                           ptrdiff_t scs) {
    if (cs == 2 && !swapped && scs == 1 && count >= VN) {
        FN(narrow_vectors)(p, dtype, count, src);
        return;
    }
    for (ptrdiff_t j = 0; j < count; j += VN) {
        const int n = count - j < VN ? (int)(count - j) : VN;
        uint16_t part[VN];
        R lanes[VN] = {0};
        for (int l = 0; l < n; l++)
            lanes[l] = src[(j + l) * scs];
        FN(store16)((char *)part, dtype, vload(lanes));
        for (int l = 0; l < n; l++) {
            part[l] = swapped ? __builtin_bswap16(part[l]) : part[l];
            memcpy(p + (j + l) * cs, &part[l], 2);
        }
    }
}

/* Rows that are neighbours in memory, at most VN: vector j holds element j of each, cs bytes from one j to the next. */
static void FN(widen_across)(const char *p, ptrdiff_t cs, int dtype, int rows, ptrdiff_t count, R *dst) {
    for (ptrdiff_t j = 0; j < count; j++, p += cs, dst += VN) {
        uint16_t part[VN] = {0};
        if (rows == VN) {
            vstore(dst, FN(load16)(p, dtype));
        } else {
            memcpy(part, p, 2 * (size_t)rows);
            vstoren(dst, rows, FN(load16)((const char *)part, dtype));
        }
    }
}

static void FN(narrow_across)(char *p, ptrdiff_t cs, int dtype, int rows, ptrdiff_t count, const R *src) {
    for (ptrdiff_t j = 0; j < count; j++, p += cs, src += VN) {
        uint16_t part[VN];
        if (rows == VN) {
            FN(store16)(p, dtype, vload(src));
        } else {
            FN(store16)((char *)part, dtype, vload(src));
            memcpy(p, part, 2 * (size_t)rows);
        }
    }
}

/* Rows of few classes, one after another in memory: rows of floats in between, which transpose.h takes. */
static bool FN(end_to_end)(const ptrdiff_t *off, int rows, ptrdiff_t count, ptrdiff_t *flat_off) {
    bool all = true;
    for (int l = 0; l < VN; l++) {
        flat_off[l] = l * count * (ptrdiff_t)sizeof(R);
        all = all && (l >= rows || off[l] - off[0] == l * count * 2);
    }
    return all;
}

static void FN(gather_halves)(const char *p, const ptrdiff_t *off, int dtype, int rows, ptrdiff_t count, R fill,
                              R *dst) {
    _Alignas(64) R flat[TILE_REALS];
    ptrdiff_t flat_off[VN];
    if (FN(end_to_end)(off, rows, count, flat_off))
        FN(widen_row)(p + off[0], 2, dtype, 0, rows * count, flat, 1);
    else
        for (int l = 0; l < rows; l++)
            FN(widen_row)(p + off[l], 2, dtype, 0, count, flat + l * count, 1);
    FN(gather_rows)((const char *)flat, flat_off, rows, count, fill, dst);
}

static void FN(scatter_halves)(const R *src, ptrdiff_t count, char *p, const ptrdiff_t *off, int dtype, int rows) {
    _Alignas(64) R flat[TILE_REALS];
    ptrdiff_t flat_off[VN];
    const bool all = FN(end_to_end)(off, rows, count, flat_off);
    FN(scatter_rows)(src, count, (char *)flat, flat_off, rows);
    if (all)
        FN(narrow_row)(p + off[0], 2, dtype, 0, rows * count, flat, 1);
    else
        for (int l = 0; l < rows; l++)
            FN(narrow_row)(p + off[l], 2, dtype, 0, count, flat + l * count, 1);
}

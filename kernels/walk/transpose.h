/* transpose.h: rows of few classes, contiguous in memory, between storage and a tile whose lanes are rows: PN classes of
 * VN rows at a time, as 16-byte pieces. Where PN does not divide the classes, the last block overlaps the one before. */

INLINE void FN(gather_block)(const char *p, const ptrdiff_t *off, int rows, const int n, R fill, R *dst) {
    V a[PN];
    P none[VP];
    vsplit(vset(fill), none);
    UNROLL for (int i = 0; i < PN; i++) {
        P piece[VP];
        UNROLL for (int q = 0; q < VP; q++) {
            const int row = PN * q + i;
            piece[q] = row >= rows ? none[0] : n == PN ? pload(p + off[row]) : ploadn(p + off[row], n);
        }
        a[i] = vjoin(piece);
    }
    vturn(a);
    UNROLL for (int c = 0; c < PN; c++) if (c < n) vstore(dst + c * VN, a[c]);
}

/* dst[class][row]; rows of the vector that are not there hold fill. */
static void FN(gather_rows)(const char *p, const ptrdiff_t *off, int rows, ptrdiff_t count, R fill, R *dst) {
    /* What comes a few groups on: the hardware loses a stream that is read in bursts. */
    const ptrdiff_t span = off[rows - 1] - off[0];
    if (span >= 0 && span <= rows * ACROSS_CLASSES * (ptrdiff_t)sizeof(R))
        for (ptrdiff_t b = 0; b <= span; b += LINE)
            __builtin_prefetch(p + off[0] + GATHER_AHEAD + b);
    if (count < PN) {
        FN(gather_block)(p, off, rows, (int)count, fill, dst);
        return;
    }
    for (ptrdiff_t c = 0; c < count; c += PN) {
        ptrdiff_t from = c + PN <= count ? c : count - PN;
        if (rows == VN)
            FN(gather_block)(p + from * (ptrdiff_t)sizeof(R), off, VN, PN, fill, dst + from * VN);
        else
            FN(gather_block)(p + from * (ptrdiff_t)sizeof(R), off, rows, PN, fill, dst + from * VN);
    }
}

INLINE void FN(scatter_block)(const R *src, const int n, char *p, const ptrdiff_t *off, int rows) {
    V a[PN];
    UNROLL for (int c = 0; c < PN; c++) a[c] = c < n ? vload(src + c * VN) : vset((R)0);
    vturn(a);
    UNROLL for (int i = 0; i < PN; i++) {
        P piece[VP];
        vsplit(a[i], piece);
        UNROLL for (int q = 0; q < VP; q++) {
            const int row = PN * q + i;
            if (row < rows && n == PN)
                pstore(p + off[row], piece[q]);
            else if (row < rows)
                pstoren(p + off[row], n, piece[q]);
        }
    }
}

static void FN(scatter_rows)(const R *src, ptrdiff_t count, char *p, const ptrdiff_t *off, int rows) {
    if (count < PN) {
        FN(scatter_block)(src, (int)count, p, off, rows);
        return;
    }
    for (ptrdiff_t c = 0; c < count; c += PN) {
        ptrdiff_t from = c + PN <= count ? c : count - PN;
        if (rows == VN)
            FN(scatter_block)(src + from * VN, PN, p + from * (ptrdiff_t)sizeof(R), off, VN);
        else
            FN(scatter_block)(src + from * VN, PN, p + from * (ptrdiff_t)sizeof(R), off, rows);
    }
}

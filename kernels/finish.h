/* finish.h: log sum exp, 1 / sum and what else a row's value and emit need, for the rows of a group, as many at once as fit
 * a vector. Quotients, logarithm and the last addition keep what they round away: only the result is rounded. Included for
 * double alone, which is what states are held in. */
/* log(1 + z (1 + e)) for z >= 0, with more = z e / (1 + z). */
static inline V FN(vlog1p_low)(V z, V more, V *low) {
    const V one = vset((R)1);
    V u = vadd(one, z); /* what u rounded away goes back in, relative to u */
    V lost = vsel(mlt(z, one), vsub(z, vsub(u, one)), vsub(one, vsub(u, z)));
    return FN(vlog_low)(u, vadd(vdiv(lost, u), more), low);
}

/* c - a b with the product exact. */
static inline V FN(vresidual)(V a, V b, V c) {
#if VEC_FMA
    return vfnma(a, b, c);
#else /* Dekker's product, from halves of 26 bits */
    const V half = vset(134217729.0);
    V ta = vmul(half, a), tb = vmul(half, b);
    V ah = vsub(ta, vsub(ta, a)), bh = vsub(tb, vsub(tb, b)), al = vsub(a, ah), bl = vsub(b, bh), p = vmul(a, b);
    V e = vadd(vsub(vmul(ah, bh), p), vadd(vmul(ah, bl), vadd(vmul(al, bh), vmul(al, bl))));
    return vsub(vsub(c, p), e);
#endif
}

static void FN(finish_lse)(const row_state *s, bool of_y, int rows, xent_lse_result *f) {
    enum { LSE, LOG1, INV, INV_LO, REST, FIELDS };
    double m[MAX_LANES] = {0}, hi[MAX_LANES] = {0}, lo[MAX_LANES] = {0}, field[FIELDS][MAX_LANES];
    const V zero = vset(0.0), one = vset(1.0), nan = vset((R)NAN);
    for (int l = 0; l < rows; l++) {
        const xent_lse *z = of_y ? &s[l].y : &s[l].x;
        m[l] = z->m;
        hi[l] = xent_sum_value(z->r);
        lo[l] = (z->r.s - hi[l]) + z->r.e;
    }
    for (int l = 0; l < rows; l += VN) {
        V vm = vload(m + l), r = vload(hi + l), r_lo = vload(lo + l), top_lo;
        V near = vif(mle(vabs(vm), vset(XENT_PLAIN)), vm); /* elsewhere the reference is m itself, and top is 1 */
        V top = FN(vexp2ref_lo)(near, vround(vmul(near, vset(XENT_LOG2E))), &top_lo);
        /* sum = top + r, z = r / top and inv = 1 / sum, and what each rounded away */
        V sum = vadd(top, r), z = vdiv(r, top), inv = vdiv(one, sum);
        V lost = vsel(mle(r, top), vsub(r, vsub(sum, top)), vsub(top, vsub(sum, r)));
        V sum_lo = vadd(lost, vadd(top_lo, r_lo));
        V z_lo = vadd(FN(vresidual)(z, top, r), vfnma(z, top_lo, r_lo)); /* times top */
        V log1_lo, log1 = FN(vlog1p_low)(z, vdiv(z_lo, sum), &log1_lo);
        V lse = vadd(vm, log1), back = vsub(lse, vm);
        lse = vadd(lse, vadd(vadd(vsub(vm, vsub(lse, back)), vsub(log1, back)), log1_lo));
        V inv_lo = vmul(vfnma(inv, sum_lo, FN(vresidual)(inv, sum, one)), inv);
        M high = meq(vm, vset(INF)), bad = mne(r, r), none = mor(meq(vm, vset(-INF)), bad);
        M special = mor(high, none);
        V gone = vsel(none, nan, zero);
        vstore(field[LSE] + l, vsel(special, vsel(bad, nan, vm), lse));
        vstore(field[LOG1] + l, vsel(special, gone, log1));
        vstore(field[INV] + l, vsel(special, gone, inv));
        vstore(field[INV_LO] + l, vsel(special, gone, inv_lo));
        vstore(field[REST] + l, vsel(special, gone, vmul(r, inv)));
    }
    for (int l = 0; l < rows; l++) {
        f[l].lse = field[LSE][l];
        f[l].log1 = field[LOG1][l];
        f[l].inv = field[INV][l];
        f[l].inv_lo = field[INV_LO][l];
        f[l].rest = field[REST][l];
    }
}

/* finish.h: xent_lse_finish (rowstate.h) for the rows of a group that goes across: as many at once as fit a vector. Included
 * for double alone, which is what states are held in. */
static void FN(finish_lse)(const row_state *s, bool of_y, int rows, xent_lse_result *f) {
    enum { LSE, LOG1, INV, INV_LO, REST, FIELDS };
    double m[MAX_LANES] = {0}, r[MAX_LANES] = {0}, field[FIELDS][MAX_LANES];
    const V zero = vset(0.0), one = vset(1.0), inf = vset(INF);
    for (int l = 0; l < rows; l++) {
        m[l] = of_y ? s[l].y.m : s[l].x.m;
        r[l] = xent_sum_value(of_y ? s[l].y.r : s[l].x.r);
    }
    for (int l = 0; l < rows; l += VN) {
        V vm = vload(m + l), vr = vload(r + l);
        V near = vif(mle(vabs(vm), vset(XENT_PLAIN)), vm); /* elsewhere the reference is m itself, and top is 1 */
        V top = FN(vexp2ref)(near, vround(vmul(near, vset(XENT_LOG2E))));
        V sum = vadd(top, vr), z = vdiv(vr, top), inv = vdiv(one, sum);
        V low = vsel(mle(vr, top), vsub(vr, vsub(sum, top)), vsub(top, vsub(sum, vr)));
        V log1 = vadd(FN(vlog1p)(z), vdiv(vfnma(z, top, vr), sum));
        V inv_lo = vmul(vfnma(inv, low, vfnma(inv, sum, one)), inv);
        M high = meq(vm, inf), none = mor(meq(vm, vset(-INF)), mne(vr, vr));
        V gone = vsel(none, vset((R)NAN), zero);
        M special = mor(high, none);
        V lse = vsel(mne(vr, vr), vset((R)NAN), vm);
        vstore(field[LSE] + l, vsel(special, lse, vadd(vm, log1)));
        vstore(field[LOG1] + l, vsel(special, gone, log1));
        vstore(field[INV] + l, vsel(special, gone, inv));
        vstore(field[INV_LO] + l, vsel(special, gone, inv_lo));
        vstore(field[REST] + l, vsel(special, gone, vmul(vr, inv)));
    }
    for (int l = 0; l < rows; l++) {
        f[l].lse = field[LSE][l];
        f[l].log1 = field[LOG1][l];
        f[l].inv = field[INV][l];
        f[l].inv_lo = field[INV_LO][l];
        f[l].rest = field[REST][l];
    }
}

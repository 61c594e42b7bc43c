/* sum.h: sums of doubles that stay right over millions of terms. */
#ifndef XENT_SUM_H
#define XENT_SUM_H

#include <math.h>

/* Neumaier's compensated sum. */
typedef struct xent_sum {
    double s, e;
} xent_sum;

static inline void xent_sum_add(xent_sum *a, double v) {
    double t = a->s + v;
    double big = fabs(a->s) >= fabs(v) ? a->s : v, small = fabs(a->s) >= fabs(v) ? v : a->s;
    double e = (big - t) + small;
    a->s = t;
    if (e - e == 0.0) /* an infinite or NaN sum stays what it is */
        a->e += e;
}

static inline void xent_sum_merge(xent_sum *a, xent_sum b) {
    xent_sum_add(a, b.s);
    a->e += b.e;
}

static inline double xent_sum_value(xent_sum a) {
    return a.s + a.e;
}

#endif

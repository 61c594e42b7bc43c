/* mixture.h: what follows from beta, the first row's share in Jensen-Shannon's m = beta p + (1 - beta) q: once a call, for C and CUDA.
 *
 * With d = log p - log q and K(d) = log(1 - beta + beta exp(d)) = log(m/q), a class adds m h(d), and the gradient needs log(p/m):
 *     h(d) = d K'(d) - K(d),  log(p/m) = d - K(d)
 * K' = a is a logistic function, a' = a (1 - a) with a(0) = beta, so that its power series a_0 + a_1 d + ... follows from itself:
 *     h(d) = d^2 (a_1/2 + a_2 2/3 d + a_3 3/4 d^2 + ...),  log(p/m) = (1 - beta) d - d^2 (a_1/2 + a_2/3 d + ...)
 * It converges for |d| < pi at least, whatever beta; each a_n but the first holds the factor beta (1 - beta), and keeps its digits. */
#ifndef XENT_MIXTURE_H
#define XENT_MIXTURE_H

#include <math.h>
#include <stdbool.h>

/* Terms of the series, for |d| <= 1/2. */
enum { XENT_MIXTURE_F32 = 11, XENT_MIXTURE_F64 = 22 };

typedef struct xent_mixture {
    double beta, rest; /* rest: 1 - beta */
    double most;       /* the largest divergence that there is: -beta log beta - (1 - beta) log(1 - beta) */
    bool even;         /* beta is 1/2, which has polynomials of its own */
    /* of h and of log(p/m), the highest power first; not where it is even */
    struct {
        float h[XENT_MIXTURE_F32], g[XENT_MIXTURE_F32];
    } f32;
    struct {
        double h[XENT_MIXTURE_F64], g[XENT_MIXTURE_F64];
    } f64;
} xent_mixture;

static inline void xent_mix(double beta, xent_mixture *m) {
    double a[XENT_MIXTURE_F64 + 2];
    m->beta = beta;
    m->rest = 1.0 - beta;
    m->even = beta == 0.5;
    m->most = m->even ? 0x1.62e42fefa39efp-1 : -(beta * log(beta) + m->rest * log1p(-beta)); /* log 2 */
    if (m->even)
        return;
    a[1] = beta * m->rest;
    for (int n = 1; n <= XENT_MIXTURE_F64; n++) {
        const int at32 = XENT_MIXTURE_F32 - n, at64 = XENT_MIXTURE_F64 - n;
        double next = (m->rest - beta) * a[n];
        for (int i = 1; i < n; i++)
            next -= a[i] * a[n - i];
        a[n + 1] = next / (n + 1);
        m->f64.h[at64] = a[n] * n / (n + 1);
        m->f64.g[at64] = a[n] / (n + 1);
        if (at32 >= 0) {
            m->f32.h[at32] = (float)m->f64.h[at64];
            m->f32.g[at32] = (float)m->f64.g[at64];
        }
    }
}

#endif

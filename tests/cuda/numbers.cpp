/* numbers.cpp: hd.h's functions over arrays, for test_numbers.py. */
#include "../../cuda/hd.h"

#include <cstddef>

using namespace xent;

#define EXPORT extern "C" __attribute__((visibility("default")))
#define OVER(name, from, to, expression)                                                                               \
    EXPORT void name(const from *in, to *out, size_t n) {                                                              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const from v = in[i];                                                                                      \
            out[i] = expression;                                                                                       \
        }                                                                                                              \
    }
#define BOTH(name, expression)                                                                                         \
    OVER(name##_f4, float, float, expression)                                                                          \
    OVER(name##_f8, double, double, expression)

template <class T, class F> static uint16_t narrowed(F v) {
    T h;
    narrow(v, &h);
    return h.bits;
}

template <class R> static R phi_of(R u) {
    return phi(u);
}

OVER(widen_half, uint16_t, float, widen(half_t{v}))
OVER(widen_bfloat16, uint16_t, float, widen(bf16_t{v}))
OVER(half_f4, float, uint16_t, narrowed<half_t>(v))
OVER(bfloat16_f4, float, uint16_t, narrowed<bf16_t>(v))
OVER(half_f8, double, uint16_t, narrowed<half_t>(v))
OVER(bfloat16_f8, double, uint16_t, narrowed<bf16_t>(v))
BOTH(exp_any, exp_any(v, decltype(v + v)(0)))
BOTH(exp_near, exp_near(v, decltype(v + v)(0)))
BOTH(exp_minus_abs, exp_minus_abs(v))
BOTH(log, log(v))
BOTH(log1p_unit, log1p_unit(v))
BOTH(phi, phi_of(v))

/* bits.h: numbers from their bits; IEEE binary16 in integer arithmetic: the same on every processor, one rounding, to nearest even. */
#ifndef XENT_BITS_H
#define XENT_BITS_H

#include <stdint.h>
#include <string.h>

static inline float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu, b;
    float f;
    if (rest >= 0x7c00u) { /* inf, NaN */
        b = sign | 0x7f800000u | ((rest & 0x3ffu) << 13);
    } else if (rest >= 0x0400u) {
        b = sign | ((rest << 13) + ((127u - 15u) << 23));
    } else { /* a denormal is an integer times 2^-24 */
        f = (float)rest * 0x1p-24f;
        memcpy(&b, &f, 4);
        b |= sign;
    }
    memcpy(&f, &b, 4);
    return f;
}

static inline float bits_to_float(uint32_t b) {
    float f;
    memcpy(&f, &b, 4);
    return f;
}

static inline double bits_to_double(uint64_t b) {
    double d;
    memcpy(&d, &b, 8);
    return d;
}

static inline uint16_t double_to_half(double v) {
    uint64_t b, m, half, drop;
    uint16_t sign;
    int e, shift;
    memcpy(&b, &v, 8);
    sign = (uint16_t)((b >> 48) & 0x8000u);
    e = (int)((b >> 52) & 0x7ff);
    m = b & 0xfffffffffffffu;
    if (e == 0x7ff)
        return (uint16_t)(sign | (m ? 0x7e00u : 0x7c00u));
    e -= 1023;
    if (e >= 16)
        return (uint16_t)(sign | 0x7c00u);
    if (e < -25)
        return sign;
    m |= 0x10000000000000u;
    shift = e >= -14 ? 42 : 42 + (-14 - e);
    half = m >> shift;
    drop = m & (((uint64_t)1 << shift) - 1);
    half += drop > ((uint64_t)1 << (shift - 1)) || (drop == (uint64_t)1 << (shift - 1) && (half & 1));
    /* a carry runs into the exponent, which is right; half holds the leading bit where the number is normal */
    if (e >= -14)
        half += (uint64_t)(e + 14) << 10;
    return (uint16_t)(sign | half);
}

#endif

/* bits.h: numbers from their bits; 16-bit floats, one at a time, in integer arithmetic: the same on every processor, one
 * rounding, to nearest even. */
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

static inline float bf16_to_float(uint16_t h) {
    return bits_to_float((uint32_t)h << 16);
}

/* A double as the 16-bit float with `digits` bits after the point and exponents up to most_exponent. A NaN keeps its sign
 * and its leading bits, and is quiet, as processors have it. */
static inline uint16_t double_to_16(double v, int digits, int most_exponent) {
    const uint64_t infinite = (uint64_t)(0x7fff >> digits) << digits;
    const int least_exponent = 1 - most_exponent;
    uint64_t b, m, kept, drop;
    uint16_t sign;
    int e, shift;
    memcpy(&b, &v, 8);
    sign = (uint16_t)((b >> 48) & 0x8000u);
    e = (int)((b >> 52) & 0x7ff);
    m = b & 0xfffffffffffffu;
    shift = 52 - digits;
    if (e == 0x7ff)
        return (uint16_t)(sign | infinite | (m ? (uint64_t)1 << (digits - 1) | m >> shift : 0));
    e -= 1023;
    if (e > most_exponent)
        return (uint16_t)(sign | infinite);
    if (e < least_exponent - digits - 1)
        return sign;
    m |= 0x10000000000000u;
    shift += e < least_exponent ? least_exponent - e : 0;
    kept = m >> shift;
    drop = m & (((uint64_t)1 << shift) - 1);
    kept += drop > ((uint64_t)1 << (shift - 1)) || (drop == (uint64_t)1 << (shift - 1) && (kept & 1));
    /* a carry runs into the exponent, which is right; kept holds the leading bit where the number is normal */
    if (e >= least_exponent)
        kept += (uint64_t)(e - least_exponent) << digits;
    return (uint16_t)(sign | kept);
}

static inline uint16_t double_to_half(double v) {
    return double_to_16(v, 10, 15);
}

static inline uint16_t double_to_bf16(double v) {
    return double_to_16(v, 7, 127);
}

#endif

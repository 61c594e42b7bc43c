/* storage.h: numbers as they are stored: from their bits, and one element at a time between storage and double or int64:
 * labels, weights, row results, everything that is not a tile. 16-bit floats in integer arithmetic: the same on every
 * processor, one rounding, to nearest even. */
#ifndef XENT_STORAGE_H
#define XENT_STORAGE_H

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

static inline uint64_t double_to_bits(double d) {
    uint64_t b;
    memcpy(&b, &d, 8);
    return b;
}

/* A double as the 16-bit float with `digits` bits after the point and exponents up to most_exponent. A NaN keeps its sign
 * and its leading bits, and is quiet, as processors have it. */
static inline uint16_t double_to_16(double v, int digits, int most_exponent) {
    const int least_exponent = 1 - most_exponent, shift = 52 - digits;
    const uint64_t infinite = (uint64_t)(0x7fff >> digits) << digits, quiet = (uint64_t)1 << (digits - 1);
    const uint64_t bits = double_to_bits(v), b = bits & 0x7fffffffffffffffu, m = b & 0xfffffffffffffu;
    const int e = (int)(b >> 52) - 1023;
    uint64_t rest;
    if (e == 1024) {
        rest = infinite | (m ? quiet | m >> shift : 0);
    } else if (e > most_exponent) {
        rest = infinite;
    } else if (e < least_exponent) { /* beside this number a double has no digit below a denormal's last */
        const uint64_t large = (uint64_t)(1023 + 52 + least_exponent - digits) << 52;
        rest = double_to_bits(bits_to_double(b) + bits_to_double(large)) - large;
    } else { /* a carry runs into the exponent, which is right */
        rest = (b + (((uint64_t)1 << (shift - 1)) - 1) + ((b >> shift) & 1)) >> shift;
        rest -= (uint64_t)(1023 - most_exponent) << digits;
    }
    return (uint16_t)((bits >> 63) << 15 | rest);
}

static inline uint16_t double_to_half(double v) {
    return double_to_16(v, 10, 15);
}

static inline uint16_t double_to_bf16(double v) {
    return double_to_16(v, 7, 127);
}

double xent_load_scalar(const char *p, int dtype, int swapped);
int64_t xent_load_label(const char *p, int dtype, int swapped); /* beyond int64: INT64_MAX */
void xent_store_scalar(char *p, int dtype, int swapped, double v);

#endif

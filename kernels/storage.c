/* storage.c: one element between storage and double or int64. */
#include "storage.h"
#include "dtypes.h"

static uint64_t load_bits(const char *p, int size, int swapped) {
    uint64_t b8 = 0;
    uint32_t b4;
    uint16_t b2;
    switch (size) {
    case 1:
        return (uint8_t)*p;
    case 2:
        memcpy(&b2, p, 2);
        return swapped ? __builtin_bswap16(b2) : b2;
    case 4:
        memcpy(&b4, p, 4);
        return swapped ? __builtin_bswap32(b4) : b4;
    default:
        memcpy(&b8, p, 8);
        return swapped ? __builtin_bswap64(b8) : b8;
    }
}

double xent_load_scalar(const char *p, int dtype, int swapped) {
    uint64_t b = load_bits(p, xent_dtype_size(dtype), swapped);
    float f;
    double d;
    uint32_t b4 = (uint32_t)b;
    switch (dtype) {
    case XENT_F16:
        return (double)half_to_float((uint16_t)b);
    case XENT_BF16:
        return (double)bf16_to_float((uint16_t)b);
    case XENT_F32:
        memcpy(&f, &b4, 4);
        return (double)f;
    default:
        memcpy(&d, &b, 8);
        return d;
    }
}

int64_t xent_load_label(const char *p, int dtype, int swapped) {
    uint64_t b = load_bits(p, xent_dtype_size(dtype), swapped);
    switch (dtype) {
    case XENT_I8:
        return (int8_t)b;
    case XENT_I16:
        return (int16_t)b;
    case XENT_I32:
        return (int32_t)b;
    case XENT_U64:
        return b > INT64_MAX ? INT64_MAX : (int64_t)b;
    default:
        return (int64_t)b;
    }
}

void xent_store_scalar(char *p, int dtype, int swapped, double v) {
    float f = (float)v;
    uint16_t b2;
    uint32_t b4;
    uint64_t b8;
    switch (dtype) {
    case XENT_F16:
    case XENT_BF16:
        b2 = dtype == XENT_F16 ? double_to_half(v) : double_to_bf16(v);
        b2 = swapped ? __builtin_bswap16(b2) : b2;
        memcpy(p, &b2, 2);
        break;
    case XENT_F32:
        memcpy(&b4, &f, 4);
        b4 = swapped ? __builtin_bswap32(b4) : b4;
        memcpy(p, &b4, 4);
        break;
    default:
        memcpy(&b8, &v, 8);
        b8 = swapped ? __builtin_bswap64(b8) : b8;
        memcpy(p, &b8, 8);
        break;
    }
}

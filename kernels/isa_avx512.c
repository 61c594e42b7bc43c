/* isa_avx512.c: all operations for x86-64 with AVX-512 F, BW, DQ, VL. */
#include "isa.h"
#include "storage.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))),              \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#pragma GCC optimize("schedule-insns", "sched-pressure") /* a run's bodies are interleaved */
#endif

#define XENT_ISA_NAME avx512
#define XENT_ISA_VEC "simd/vec_avx512.h"
#define XENT_REAL 64
#include "isa_body.h"
#define XENT_REAL 32
#include "isa_body.h"

const isa_entry xent_isa_avx512_entry = {"avx512", &kernels_avx512_f32, &kernels_avx512_f64, merge_avx512_f64,
                                         finish_avx512_f64};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

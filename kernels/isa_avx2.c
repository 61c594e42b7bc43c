/* isa_avx2.c: all operations for x86-64 with AVX2, FMA and F16C (2013 on). */
#include "isa.h"
#include "storage.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#pragma GCC optimize("schedule-insns", "sched-pressure") /* a run's bodies are interleaved */
#endif

#define XENT_ISA_NAME avx2
#define XENT_ISA_VEC "simd/vec_avx2.h"
#define XENT_REAL 64
#include "isa_body.h"
#define XENT_REAL 32
#include "isa_body.h"

const isa_entry xent_isa_avx2_entry = {"avx2", &kernels_avx2_f32, &kernels_avx2_f64, merge_avx2_f64, finish_avx2_f64};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

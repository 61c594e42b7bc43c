/* host_launch.h: launch.h for PTX: cuda/api.cpp chooses kernels and their arguments as ever, and a launch runs what
 * nvcc made of the kernel. It takes the place of the host build's, whose lanes run what this machine's compiler makes
 * of it. */
#ifndef XENT_PTX_HOST_LAUNCH_H
#define XENT_PTX_HOST_LAUNCH_H

#include <cstddef>
#include <cstdint>
#include <typeinfo>

#include "../../../cuda/group.h"
#include "../../../cuda/xent_cuda.h"

namespace xent_host {

void trace(const char *kernel, int64_t blocks);
bool clusters();

} // namespace xent_host

namespace ptx {

/* Of the file of PTX that its unit was compiled to, the function by this mangled name. */
xent_status launch(const char *unit, const char *mangled_type, const void *arguments, size_t bytes, int64_t blocks,
                   int threads, int cluster);

} // namespace ptx

namespace xent {

/* As the kernels' function template of launch.h is called: so the name of run<K> as a type is its name as a function,
 * but for how it begins and ends. */
template <class K> struct run {};

#define XENT_TEXT_OF(x) #x
#define XENT_TEXT(x) XENT_TEXT_OF(x)

template <class K> xent_status launch(const typename K::args &a, int64_t blocks, void *) {
    xent_host::trace(__PRETTY_FUNCTION__, blocks);
    int cluster = 1;
    if constexpr (K::shape::ranks > 1)
        cluster = K::cluster(a);
    return ptx::launch(XENT_TEXT(XENT_REDUCE) "-" XENT_TEXT(XENT_DTYPE), typeid(run<K>).name(), &a, sizeof a, blocks,
                       K::shape::threads, cluster);
}

template <class K> xent_status load(int *made_for) {
    *made_for = 0;
    return XENT_OK;
}

} // namespace xent

#endif

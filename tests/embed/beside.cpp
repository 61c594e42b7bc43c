// beside.cpp: libxent in a C++ program that has its own OpenMP runtime: both work in turns, and together, on several threads
// each, and the program's regions call xent.
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include <omp.h>
#include <xent.h>

static double sum_in_parallel(const std::vector<float> &x) {
    double sum = 0.0;
#pragma omp parallel for reduction(+ : sum) num_threads(3)
    for (long i = 0; i < (long)x.size(); i++)
        sum += std::exp((double)x[(std::size_t)i]);
    return sum;
}

int main() {
    const std::size_t rows = 600, classes = 1000;
    std::vector<float> x(rows * classes), first(rows), again(rows);
    for (std::size_t i = 0; i < x.size(); i++)
        x[i] = (float)((i * 2654435761u) % 1000u) / 100.0f - 5.0f;
    if (xent_set_num_threads(3) != XENT_OK || xent_logsumexp_f32(x.data(), rows, classes, first.data()) != XENT_OK)
        return 1;

    for (int turn = 0; turn < 50; turn++) { // in turns
        double sum = sum_in_parallel(x), ours = 0.0;
        if (xent_logsumexp_f32(x.data(), rows, classes, again.data()) != XENT_OK || again != first)
            return 2;
        for (float v : again)
            ours += std::exp((double)v);
        if (std::fabs(ours - sum) > 1e-6 * sum)
            return 3;
    }

    std::thread other([&] { // together
        for (int turn = 0; turn < 50; turn++)
            sum_in_parallel(x);
    });
    int wrong = 0;
    for (int turn = 0; turn < 50; turn++)
        wrong += xent_logsumexp_f32(x.data(), rows, classes, again.data()) != XENT_OK || again != first;
    other.join();

    std::vector<float> inside(rows); // one in the other
    int team = 0;
#pragma omp parallel for num_threads(3) reduction(+ : wrong) reduction(max : team)
    for (long i = 0; i < (long)rows; i++) {
        team = omp_get_num_threads();
        wrong += xent_logsumexp_f32(&x[(std::size_t)i * classes], 1, classes, &inside[(std::size_t)i]) != XENT_OK;
    }
    std::printf("%d threads, OpenMP in libxent %s\n", team, xent_has_openmp() ? "on" : "off");
    return wrong || inside != first ? 4 : 0;
}

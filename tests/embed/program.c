/* program.c: what somebody else's C program does with libxent: rows of logits and their labels from a file, a loss a row
 * and the rows' common log sum exp, in hexadecimal so that no digit is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <xent.h>

static void *get(FILE *file, size_t count, size_t size) {
    void *p = malloc(count * size);
    if (!p || fread(p, size, count, file) != count) {
        fprintf(stderr, "the file is too short\n");
        exit(2);
    }
    return p;
}

static void must(xent_status status) {
    if (status != XENT_OK) {
        fprintf(stderr, "%s\n", xent_strerror(status));
        exit(1);
    }
}

int main(int argc, char **argv) {
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: program file rows classes\n");
        return 2;
    }
    size_t rows = strtoul(argv[2], NULL, 10), classes = strtoul(argv[3], NULL, 10);
    float *logits = get(file, rows * classes, sizeof *logits), *losses = malloc(rows * sizeof *losses), all;
    int64_t *labels = get(file, rows, sizeof *labels);
    fclose(file);
    if (!losses || xent_abi_version() != XENT_ABI_VERSION) {
        fprintf(stderr, "no memory, or another libxent than its header\n");
        return 2;
    }

    must(xent_cross_entropy_with_labels_f32(logits, labels, rows, classes, losses));
    for (size_t i = 0; i < rows; i++)
        printf("%a\n", (double)losses[i]);
    must(xent_logsumexp_f32(logits, 1, rows * classes, &all));
    printf("%a\n", (double)all);
    free(logits), free(losses), free(labels);
    return 0;
}

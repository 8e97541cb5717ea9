/* A stand-in for libcuda.so.1: enough to tell whether CUDA would initialise, and how many GPUs it would see.
 *
 * NVIDIA's cuda.h is in no small package, so the few prototypes are written out (CUDA Driver API, 13.0).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define EXPORT __attribute__((visibility("default")))

enum { NO_DEVICE = 100, UNKNOWN = 999 };

static int visible(void) {
    const state_t *state = state_now();
    const char *chosen = getenv("CUDA_VISIBLE_DEVICES");
    int count = 0;
    for (int i = 0; i < state->gpus; i++) {
        if (!state_gpu_visible(&state->gpu[i])) continue;
        /* By UUID alone: the numbers are CUDA's own, which nobody here has. */
        count += !chosen || strstr(chosen, state->gpu[i].uuid) != NULL;
    }
    return count;
}

EXPORT int cuInit(unsigned int flags) {
    (void)flags;
    if (state_now()->cuinit) return state_now()->cuinit;
    if (state_control() < 0 || state_device("/dev/nvidia-uvm") != 1) return UNKNOWN;
    return visible() ? 0 : NO_DEVICE;
}

EXPORT int cuDriverGetVersion(int *version) {
    *version = state_now()->cuda;
    return 0;
}

EXPORT int cuDeviceGetCount(int *count) {
    *count = visible();
    return 0;
}

/* A double of NVIDIA's management library, libnvidia-ml.so.1, against the signatures of the real nvml.h.
 *
 * Handles encode which GPU (and MIG slot) they mean, so no pointer into the state ever goes out, and a state
 * that changes between two calls changes what the next one answers. An index counts what is visible, as the
 * real library counts in a container.
 */
#define _GNU_SOURCE
#pragma GCC visibility push(default)
#include <nvml.h>
#pragma GCC visibility pop

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "state.h"

enum { SLOTS = MAX_MIG + 1, FIRST_HANDLE = 4096 };

static int initialised;

static nvmlDevice_t handle_of(int gpu, int slot) { /* slot -1: the whole GPU */
    return (nvmlDevice_t)(uintptr_t)(FIRST_HANDLE + gpu * SLOTS + slot + 1);
}
static int gpu_of(nvmlDevice_t handle) { return ((int)(uintptr_t)handle - FIRST_HANDLE) / SLOTS; }
static int slot_of(nvmlDevice_t handle) { return ((int)(uintptr_t)handle - FIRST_HANDLE) % SLOTS - 1; }

/* What the state says that this function returns, for this GPU (-1: for none in particular). */
static nvmlReturn_t fault(const state_t *state, const char *function, int gpu) {
    for (int i = 0; i < state->delays; i++)
        if (strcmp(state->delay[i].function, function) == 0) usleep((useconds_t)state->delay[i].value * 1000);
    for (int i = 0; i < state->errors; i++) {
        const fault_t *error = &state->error[i];
        if (error->gpu != -1 && error->gpu != gpu) continue;
        if (strcmp(error->function, "*") == 0 || strcmp(error->function, function) == 0)
            return (nvmlReturn_t)error->value;
    }
    return NVML_SUCCESS;
}

/* Opens every call that needs the library to be initialised. */
#define BEGIN(gpu_index)                                                     \
    const state_t *state = state_now();                                      \
    if (!initialised) return NVML_ERROR_UNINITIALIZED;                       \
    do {                                                                     \
        nvmlReturn_t code = fault(state, __func__, gpu_index);               \
        if (code != NVML_SUCCESS) return code;                               \
    } while (0)

/* The same for calls about a device; `gpu` is then the device's, `slot` its MIG slot or -1. */
#define BEGIN_DEVICE(handle)                                                 \
    BEGIN(gpu_of(handle));                                                   \
    if ((uintptr_t)(handle) < FIRST_HANDLE || gpu_of(handle) >= state->gpus) \
        return NVML_ERROR_INVALID_ARGUMENT;                                  \
    const gpu_t *gpu = &state->gpu[gpu_of(handle)];                          \
    const int slot = slot_of(handle);                                        \
    if (slot >= gpu->migs) return NVML_ERROR_INVALID_ARGUMENT;               \
    (void)gpu, (void)slot

static nvmlReturn_t give(char *out, unsigned length, const char *text) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

/* --- the library itself --- */

static nvmlReturn_t start(const char *function) {
    const state_t *state = state_now();
    nvmlReturn_t code = fault(state, function, -1);
    if (code == NVML_SUCCESS) code = fault(state, "nvmlInit_v2", -1);
    if (code != NVML_SUCCESS) return code;
    if (!state->driver[0] || state_control() == 0) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (state_control() < 0) return NVML_ERROR_UNKNOWN;
    initialised++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) { return start("nvmlInit_v2"); }

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    return start(__func__);
}

nvmlReturn_t nvmlShutdown(void) {
    if (!initialised) return NVML_ERROR_UNINITIALIZED;
    initialised--;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_FUNCTION_NOT_FOUND: return "Function Not Found";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    BEGIN(-1);
    return give(version, length, state->driver);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    BEGIN(-1);
    *version = state->cuda;
    return NVML_SUCCESS;
}

/* --- finding devices --- */

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    BEGIN(-1);
    *count = 0;
    for (int i = 0; i < state->gpus; i++) *count += (unsigned)state_gpu_visible(&state->gpu[i]);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    BEGIN(-1);
    unsigned seen = 0;
    for (int i = 0; i < state->gpus; i++) {
        if (!state_gpu_visible(&state->gpu[i]) || seen++ != index) continue;
        *device = handle_of(i, -1);
        return fault(state, __func__, i);
    }
    return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    BEGIN(-1);
    for (int i = 0; i < state->gpus; i++) {
        const gpu_t *gpu = &state->gpu[i];
        if (!state_gpu_visible(gpu)) continue;
        if (strcmp(gpu->uuid, uuid) == 0) {
            *device = handle_of(i, -1);
            return fault(state, __func__, i);
        }
        for (int slot = 0; slot < gpu->migs; slot++)
            if (strcmp(gpu->mig[slot].uuid, uuid) == 0 && state_mig_visible(&gpu->mig[slot])) {
                *device = handle_of(i, slot);
                return fault(state, __func__, i);
            }
    }
    return NVML_ERROR_NOT_FOUND;
}

/* --- what a device is --- */

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    BEGIN_DEVICE(device);
    char text[2 * TEXT + 8];
    snprintf(text, sizeof text, slot < 0 ? "%s" : "%s MIG %s", gpu->name, slot < 0 ? "" : gpu->mig[slot].profile);
    return give(name, length, text);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    BEGIN_DEVICE(device);
    return give(uuid, length, slot < 0 ? gpu->uuid : gpu->mig[slot].uuid);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    BEGIN_DEVICE(device);
    *minor = gpu->minor;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    BEGIN_DEVICE(device);
    memset(pci, 0, sizeof *pci);
    sscanf(gpu->pci, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, NVML_DEVICE_PCI_BUS_ID_FMT_ARGS(pci));
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT,
             NVML_DEVICE_PCI_BUS_ID_FMT_ARGS(pci));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    BEGIN_DEVICE(device);
    *major = gpu->major_cc;
    *minor = gpu->minor_cc;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode) {
    BEGIN_DEVICE(device);
    if (gpu->compute_mode < 0) return NVML_ERROR_NOT_SUPPORTED;
    *mode = (nvmlComputeMode_t)gpu->compute_mode;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    BEGIN_DEVICE(device);
    if (slot >= 0 || gpu->persistence < 0) return NVML_ERROR_NOT_SUPPORTED;
    *mode = gpu->persistence ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return NVML_SUCCESS;
}

/* --- what a device does now --- */

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    BEGIN_DEVICE(device);
    memory->total = slot < 0 ? gpu->total : gpu->mig[slot].total;
    memory->used = slot < 0 ? gpu->used + gpu->reserved : gpu->mig[slot].used; /* the first call counts both */
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    BEGIN_DEVICE(device);
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memory->total = slot < 0 ? gpu->total : gpu->mig[slot].total;
    memory->used = slot < 0 ? gpu->used : gpu->mig[slot].used;
    memory->reserved = slot < 0 ? gpu->reserved : 0;
    memory->free = memory->total - memory->used - memory->reserved;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    BEGIN_DEVICE(device);
    if (slot >= 0 || gpu->utilisation < 0) return NVML_ERROR_NOT_SUPPORTED;
    utilization->gpu = (unsigned)gpu->utilisation;
    utilization->memory = (unsigned)gpu->utilisation / 2;
    return NVML_SUCCESS;
}

static nvmlReturn_t give_processes(const gpu_t *gpu, int slot, unsigned int *count, nvmlProcessInfo_t *infos) {
    unsigned found = 0;
    for (int i = 0; i < gpu->processes; i++) found += gpu->process[i].slot == slot;
    const unsigned room = infos ? *count : 0;
    *count = found;
    if (found > room) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (int i = 0, next = 0; i < gpu->processes; i++) {
        const process_t *process = &gpu->process[i];
        if (process->slot != slot) continue;
        infos[next++] = (nvmlProcessInfo_t){
            .pid = process->pid,
            .usedGpuMemory = process->told ? process->used : (bytes_t)NVML_VALUE_NOT_AVAILABLE,
            .gpuInstanceId = slot < 0 ? 0xFFFFFFFF : gpu->mig[slot].instance,
            .computeInstanceId = slot < 0 ? 0xFFFFFFFF : 0,
        };
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *infoCount,
                                                     nvmlProcessInfo_t *infos) {
    BEGIN_DEVICE(device);
    return give_processes(gpu, slot, infoCount, infos);
}

/* Drivers before R510 have this one alone; the header declares it no more. */
__attribute__((visibility("default"))) nvmlReturn_t
nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v2_t *infos) {
    BEGIN_DEVICE(device);
    return give_processes(gpu, slot, infoCount, infos);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *infoCount,
                                                      nvmlProcessInfo_t *infos) {
    BEGIN_DEVICE(device);
    (void)infos;
    *infoCount = 0;
    return NVML_SUCCESS;
}

/* --- MIG --- */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *currentMode, unsigned int *pendingMode) {
    BEGIN_DEVICE(device);
    if (slot >= 0 || gpu->mig_mode < 0) return NVML_ERROR_NOT_SUPPORTED;
    *currentMode = *pendingMode = (unsigned)gpu->mig_mode;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    BEGIN_DEVICE(device);
    *count = gpu->mig_mode < 0 ? 0 : MAX_MIG;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *migDevice) {
    BEGIN_DEVICE(device);
    if (slot >= 0 || gpu->mig_mode < 0) return NVML_ERROR_NOT_SUPPORTED;
    if (index >= MAX_MIG) return NVML_ERROR_INVALID_ARGUMENT;
    if ((int)index >= gpu->migs || !state_mig_visible(&gpu->mig[index])) return NVML_ERROR_NOT_FOUND;
    *migDevice = handle_of(gpu_of(device), (int)index);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t migDevice, nvmlDevice_t *device) {
    BEGIN_DEVICE(migDevice);
    if (slot < 0) return NVML_ERROR_INVALID_ARGUMENT;
    *device = handle_of(gpu_of(migDevice), -1);
    return NVML_SUCCESS;
}

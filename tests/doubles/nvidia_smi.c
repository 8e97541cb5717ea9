/* A double of nvidia-smi: what people type first. It asks the library, as the real one does. */
#include <dlfcn.h>
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *library;

#define CALL(function, ...) ((__typeof__(&function))dlsym(library, #function))(__VA_ARGS__)

enum { MIB = 1 << 20 };

typedef struct {
    unsigned index;
    nvmlDevice_t handle;
    char name[NVML_DEVICE_NAME_V2_BUFFER_SIZE], uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
    nvmlMemory_v2_t memory;
    nvmlPciInfo_t pci;
    int major, minor;
    unsigned utilisation, mig;
    int has_utilisation, has_mig;
} device_t;

/* NVIDIA's own texts and exit codes for a library that doesn't start. */
static int failed(nvmlReturn_t code) {
    if (code == NVML_ERROR_DRIVER_NOT_LOADED)
        printf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
               "Make sure that the latest NVIDIA driver is installed and running.\n\n");
    else
        printf("Failed to initialize NVML: %s\n", CALL(nvmlErrorString, code));
    return code == NVML_ERROR_UNKNOWN ? 255 : (int)code;
}

static nvmlReturn_t describe(unsigned index, device_t *device) {
    memset(device, 0, sizeof *device);
    device->index = index;
    nvmlReturn_t code = CALL(nvmlDeviceGetHandleByIndex_v2, index, &device->handle);
    if (code == NVML_SUCCESS) code = CALL(nvmlDeviceGetName, device->handle, device->name, sizeof device->name);
    if (code == NVML_SUCCESS) code = CALL(nvmlDeviceGetUUID, device->handle, device->uuid, sizeof device->uuid);
    if (code != NVML_SUCCESS) return code;
    device->memory.version = nvmlMemory_v2;
    CALL(nvmlDeviceGetMemoryInfo_v2, device->handle, &device->memory);
    CALL(nvmlDeviceGetPciInfo_v3, device->handle, &device->pci);
    CALL(nvmlDeviceGetCudaComputeCapability, device->handle, &device->major, &device->minor);
    nvmlUtilization_t rates;
    device->has_utilisation = CALL(nvmlDeviceGetUtilizationRates, device->handle, &rates) == NVML_SUCCESS;
    if (device->has_utilisation) device->utilisation = rates.gpu;
    unsigned pending;
    device->has_mig = CALL(nvmlDeviceGetMigMode, device->handle, &device->mig, &pending) == NVML_SUCCESS;
    return NVML_SUCCESS;
}

static void list(const device_t *device) {
    printf("GPU %u: %s (UUID: %s)\n", device->index, device->name, device->uuid);
    unsigned slots = 0;
    CALL(nvmlDeviceGetMaxMigDeviceCount, device->handle, &slots);
    for (unsigned i = 0; i < slots; i++) {
        nvmlDevice_t mig;
        char name[NVML_DEVICE_NAME_V2_BUFFER_SIZE], uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
        if (CALL(nvmlDeviceGetMigDeviceHandleByIndex, device->handle, i, &mig) != NVML_SUCCESS) continue;
        CALL(nvmlDeviceGetName, mig, name, sizeof name);
        CALL(nvmlDeviceGetUUID, mig, uuid, sizeof uuid);
        const char *profile = strstr(name, "MIG ");
        printf("  %-16s Device %2u: (UUID: %s)\n", profile ? profile : name, i, uuid);
    }
}

static void table(const device_t *device) {
    char use[16] = "N/A";
    if (device->has_utilisation) snprintf(use, sizeof use, "%u%%", device->utilisation);
    printf("| %3u  %-36.36s  | %-18.18s | %8lluMiB / %lluMiB | %6s |\n", device->index, device->name,
           device->pci.busId, (unsigned long long)device->memory.used / MIB,
           (unsigned long long)device->memory.total / MIB, use);
}

/* Prints one field of --query-gpu; 0 where NVIDIA knows no such field. */
static int field(const device_t *device, const char *name, const char *driver, int units) {
    const char *mib = units ? " MiB" : "";
    if (strcmp(name, "index") == 0) printf("%u", device->index);
    else if (strcmp(name, "name") == 0) printf("%s", device->name);
    else if (strcmp(name, "uuid") == 0) printf("%s", device->uuid);
    else if (strcmp(name, "driver_version") == 0) printf("%s", driver);
    else if (strcmp(name, "pci.bus_id") == 0) printf("%s", device->pci.busId);
    else if (strcmp(name, "compute_cap") == 0) printf("%d.%d", device->major, device->minor);
    else if (strcmp(name, "memory.total") == 0) printf("%llu%s", device->memory.total / MIB, mib);
    else if (strcmp(name, "memory.used") == 0) printf("%llu%s", device->memory.used / MIB, mib);
    else if (strcmp(name, "memory.free") == 0) printf("%llu%s", device->memory.free / MIB, mib);
    else if (strcmp(name, "memory.reserved") == 0) printf("%llu%s", device->memory.reserved / MIB, mib);
    else if (strcmp(name, "utilization.gpu") == 0) {
        if (device->has_utilisation) printf("%u%s", device->utilisation, units ? " %" : "");
        else printf("[N/A]");
    } else if (strcmp(name, "mig.mode.current") == 0)
        printf("%s", !device->has_mig ? "[N/A]" : device->mig ? "Enabled" : "Disabled");
    else return 0;
    return 1;
}

static int query(const device_t *device, const char *fields, const char *driver, int units) {
    char copy[512];
    snprintf(copy, sizeof copy, "%s", fields);
    char *rest = copy, *name;
    for (const char *comma = ""; (name = strsep(&rest, ",")); comma = ", ") {
        printf("%s", comma);
        if (!field(device, name, driver, units)) {
            printf("Field \"%s\" is not a valid field to query.\n\n", name);
            return 2;
        }
    }
    printf("\n");
    return 0;
}

int main(int argc, char **argv) {
    const char *fields = NULL, *format = "";
    int listing = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-L") == 0 || strcmp(argv[i], "--list-gpus") == 0) listing = 1;
        else if (strncmp(argv[i], "--query-gpu=", 12) == 0) fields = argv[i] + 12;
        else if (strncmp(argv[i], "--format=", 9) == 0) format = argv[i] + 9;
        else {
            printf("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n\n");
            return 1;
        }
    }
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        printf("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA "
               "Display Driver is properly installed and present in your system.\n");
        return 12;
    }
    nvmlReturn_t code = CALL(nvmlInit_v2);
    int cuda = 0;
    if (code != NVML_SUCCESS) return failed(code);
    char driver[NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE] = "";
    unsigned count = 0;
    CALL(nvmlSystemGetDriverVersion, driver, sizeof driver);
    CALL(nvmlSystemGetCudaDriverVersion_v2, &cuda);
    CALL(nvmlDeviceGetCount_v2, &count);
    if (count == 0) {
        printf("No devices were found\n");
        return 6;
    }
    if (fields && !strstr(format, "noheader")) printf("%s\n", fields);
    if (!fields && !listing)
        printf("| NVIDIA-SMI %s   Driver Version: %s   CUDA Version: %d.%d |\n", driver, driver, cuda / 1000,
               cuda % 1000 / 10);
    for (unsigned i = 0; i < count; i++) {
        device_t device;
        code = describe(i, &device);
        if (code != NVML_SUCCESS) {
            printf("Unable to determine the device handle for GPU%u: %s\n", i, CALL(nvmlErrorString, code));
            return (int)code;
        }
        if (listing) list(&device);
        else if (!fields) table(&device);
        else if (query(&device, fields, driver, !strstr(format, "nounits"))) return 2;
    }
    return 0;
}

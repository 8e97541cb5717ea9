/* Reading the doubles' state, and what a container may see of it.
 *
 * On the host the state is the file that $NVIDIA_DOUBLE_STATE names. In a container it is the one that the
 * double of NVIDIA's runtime mounts, and there, as with the real driver, only those GPUs exist whose device
 * node can be opened. The nodes bear NVIDIA's real numbers and no driver stands behind them: opening one
 * gives ENXIO where the device cgroup lets the call through, and EPERM where it does not, so that the
 * well-known loss of GPUs after a daemon-reload can be had for real.
 */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const CONTAINER_STATE = "/run/nvidia-double/state";

static const char *state_path(void) {
    const char *named = getenv("NVIDIA_DOUBLE_STATE");
    return named ? named : CONTAINER_STATE;
}

/* Copies the value of "key=" up to the next blank; name= goes to the end of the line. */
static int text_of(const char *line, const char *key, char *out) {
    char pattern[TEXT];
    snprintf(pattern, sizeof pattern, " %s=", key);
    const char *found = strstr(line, pattern);
    if (!found) return 0;
    found += strlen(pattern);
    size_t length = strcmp(key, "name") == 0 ? strlen(found) : strcspn(found, " ");
    if (length >= TEXT) length = TEXT - 1;
    memcpy(out, found, length);
    out[length] = '\0';
    return 1;
}

static bytes_t number_of(const char *line, const char *key, bytes_t otherwise) {
    char text[TEXT];
    return text_of(line, key, text) ? strtoull(text, NULL, 10) : otherwise;
}

static void read_gpu(state_t *state, const char *line) {
    int index = atoi(line + strlen("gpu "));
    if (index < 0 || index >= MAX_GPUS) return;
    gpu_t *gpu = &state->gpu[index];
    char capability[TEXT] = "0.0";
    text_of(line, "uuid", gpu->uuid);
    text_of(line, "name", gpu->name);
    text_of(line, "pci", gpu->pci);
    text_of(line, "cc", capability);
    sscanf(capability, "%d.%d", &gpu->major_cc, &gpu->minor_cc);
    gpu->minor = (unsigned)number_of(line, "minor", 0);
    gpu->total = number_of(line, "total", 0);
    gpu->used = number_of(line, "used", 0);
    gpu->reserved = number_of(line, "reserved", 0);
    gpu->utilisation = (int)number_of(line, "util", (bytes_t)-1);
    gpu->mig_mode = (int)number_of(line, "mig", (bytes_t)-1);
    gpu->compute_mode = (int)number_of(line, "compute", (bytes_t)-1);
    gpu->persistence = (int)number_of(line, "persistence", (bytes_t)-1);
    if (index + 1 > state->gpus) state->gpus = index + 1;
}

static void read_mig(state_t *state, const char *line) {
    int index, slot;
    if (sscanf(line, "mig %d %d", &index, &slot) != 2) return;
    if (index < 0 || index >= MAX_GPUS || slot < 0 || slot >= MAX_MIG) return;
    gpu_t *gpu = &state->gpu[index];
    mig_t *mig = &gpu->mig[slot];
    text_of(line, "uuid", mig->uuid);
    text_of(line, "name", mig->profile);
    mig->instance = (unsigned)number_of(line, "instance", 0);
    mig->capability = (unsigned)number_of(line, "capability", 0);
    mig->total = number_of(line, "total", 0);
    mig->used = number_of(line, "used", 0);
    if (slot + 1 > gpu->migs) gpu->migs = slot + 1;
}

static void read_process(state_t *state, const char *line) {
    int index;
    char slot[TEXT];
    if (sscanf(line, "process %d %95s", &index, slot) != 2 || index < 0 || index >= MAX_GPUS) return;
    gpu_t *gpu = &state->gpu[index];
    if (gpu->processes == MAX_PROCESSES) return;
    process_t *process = &gpu->process[gpu->processes++];
    process->pid = (unsigned)number_of(line, "pid", 0);
    process->used = number_of(line, "used", 0);
    process->told = strstr(line, " used=") != NULL;
    process->slot = strcmp(slot, "-") == 0 ? -1 : atoi(slot);
}

static void read_fault(const char *line, fault_t *faults, int *count) {
    if (*count == MAX_FAULTS) return;
    fault_t *fault = &faults[*count];
    fault->gpu = -1;
    if (sscanf(line, "%*s %95s %d %d", fault->function, &fault->value, &fault->gpu) >= 2) ++*count;
}

static void read_line(state_t *state, const char *line) {
    if (strncmp(line, "gpu ", 4) == 0) read_gpu(state, line);
    else if (strncmp(line, "mig ", 4) == 0) read_mig(state, line);
    else if (strncmp(line, "process ", 8) == 0) read_process(state, line);
    else if (strncmp(line, "error ", 6) == 0) read_fault(line, state->error, &state->errors);
    else if (strncmp(line, "delay ", 6) == 0) read_fault(line, state->delay, &state->delays);
    else {
        sscanf(line, "driver %95s", state->driver);
        sscanf(line, "cuda %d", &state->cuda);
        sscanf(line, "cuinit %d", &state->cuinit);
    }
}

const state_t *state_now(void) {
    static _Thread_local state_t state;
    static _Thread_local struct stat known;
    struct stat found;
    if (stat(state_path(), &found) != 0) {
        memset(&state, 0, sizeof state);
        memset(&known, 0, sizeof known);
        return &state;
    }
    /* A replaced file is another inode, or at least another time. */
    if (found.st_ino == known.st_ino && memcmp(&found.st_mtim, &known.st_mtim, sizeof found.st_mtim) == 0)
        return &state;
    FILE *file = fopen(state_path(), "re");
    if (!file) return &state;
    memset(&state, 0, sizeof state);
    char line[512];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        read_line(&state, line);
    }
    fclose(file);
    known = found;
    return &state;
}

int state_device(const char *path) {
    if (getenv("NVIDIA_DOUBLE_STATE")) return 1;
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor >= 0) close(descriptor);
    if (descriptor >= 0 || errno == ENXIO) return 1;
    return errno == ENOENT ? 0 : -1;
}

int state_control(void) { return state_device("/dev/nvidiactl"); }

int state_gpu_visible(const gpu_t *gpu) {
    char path[TEXT];
    if (!gpu->uuid[0]) return 0;
    snprintf(path, sizeof path, "/dev/nvidia%u", gpu->minor);
    return state_device(path) == 1;
}

int state_mig_visible(const mig_t *mig) {
    char path[TEXT];
    if (!mig->uuid[0]) return 0;
    snprintf(path, sizeof path, "/dev/nvidia-caps/nvidia-cap%u", mig->capability);
    return state_device(path) == 1;
}

/* What the NVIDIA doubles show, read from the text file that state.py writes. */
#ifndef NVIDIA_DOUBLE_STATE_H
#define NVIDIA_DOUBLE_STATE_H

enum { MAX_GPUS = 16, MAX_MIG = 7, MAX_PROCESSES = 64, MAX_FAULTS = 64, TEXT = 96 };

typedef unsigned long long bytes_t;

typedef struct {
    unsigned pid;
    bytes_t used;
    int told; /* 0: the driver does not tell how much */
    int slot; /* MIG slot, or -1: the whole GPU */
} process_t;

typedef struct {
    char uuid[TEXT], profile[TEXT];
    unsigned instance, capability;
    bytes_t total, used;
} mig_t;

typedef struct {
    char uuid[TEXT], name[TEXT], pci[TEXT];
    unsigned minor;
    int major_cc, minor_cc;
    bytes_t total, used, reserved;
    int utilisation; /* -1: not told */
    int mig_mode;    /* -1: the model knows no MIG */
    int persistence, compute_mode; /* -1: not told */
    int migs, processes;
    mig_t mig[MAX_MIG];
    process_t process[MAX_PROCESSES];
} gpu_t;

typedef struct {
    char function[TEXT];
    int value; /* a code to return, or milliseconds to wait */
    int gpu;   /* -1: whatever the call is about */
} fault_t;

typedef struct {
    char driver[TEXT];
    int cuda, cuinit, gpus, errors, delays;
    gpu_t gpu[MAX_GPUS];
    fault_t error[MAX_FAULTS], delay[MAX_FAULTS];
} state_t;

/* The state as the file has it now; empty (no driver, no GPU) where there is no file. One per thread. */
const state_t *state_now(void);

/* Whether this process may use a device: 1 yes, 0 there is none, -1 the device cgroup forbids it.
   Outside a container everything is allowed. */
int state_device(const char *path);
int state_control(void);              /* /dev/nvidiactl */
int state_gpu_visible(const gpu_t *gpu);
int state_mig_visible(const mig_t *mig);

#endif

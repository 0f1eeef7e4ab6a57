/* Loading libnvidia-ml.so.1 and the few calls that are not facts of one GPU. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smi.h"

static void *library;

bool smi_open(void) {
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    return library != NULL;
}

void *smi_function(const char *name) {
    void *function = dlsym(library, name);
    if (!function) {
        printf("Function \"%s\" Not Found\n", name);
        exit(NVML_ERROR_FUNCTION_NOT_FOUND);
    }
    return function;
}

nvmlReturn_t smi_init(void) { return ((nvmlReturn_t(*)(void))smi_function("nvmlInit_v2"))(); }

const char *smi_error(nvmlReturn_t result) {
    return ((const char *(*)(nvmlReturn_t))smi_function("nvmlErrorString"))(result);
}

unsigned int smi_count(void) {
    unsigned int count = 0;
    ((nvmlReturn_t(*)(unsigned int *))smi_function("nvmlDeviceGetCount_v2"))(&count);
    return count;
}

nvmlReturn_t smi_handle(unsigned int index, nvmlDevice_t *device) {
    return ((nvmlReturn_t(*)(unsigned int, nvmlDevice_t *))smi_function("nvmlDeviceGetHandleByIndex_v2"))(index,
                                                                                                         device);
}

bool smi_mig_handle(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig) {
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned int, nvmlDevice_t *) =
        smi_function("nvmlDeviceGetMigDeviceHandleByIndex");
    return get(device, index, mig) == NVML_SUCCESS;
}

bool smi_system(const char *what, char *out) {
    if (!strcmp(what, "cuda_version")) {
        int version = 0;
        bool good = ((nvmlReturn_t(*)(int *))smi_function("nvmlSystemGetCudaDriverVersion_v2"))(&version) == 0;
        snprintf(out, SMI_TEXT, "%d.%d", version / 1000, version % 1000 / 10);
        return good;
    }
    const char *name = strcmp(what, "nvml_version") ? "nvmlSystemGetDriverVersion" : "nvmlSystemGetNVMLVersion";
    return ((nvmlReturn_t(*)(char *, unsigned int))smi_function(name))(out, SMI_TEXT) == NVML_SUCCESS;
}

static const char *selection;

void smi_select(const char *devices) { selection = devices; }

/* A GPU by its index, UUID or PCI address, as -i takes them. */
static nvmlReturn_t handle_of(const char *name, nvmlDevice_t *device) {
    char *end;
    unsigned long index = strtoul(name, &end, 10);
    if (*name && !*end) return smi_handle((unsigned int)index, device);
    return ((nvmlReturn_t(*)(const char *, nvmlDevice_t *))smi_function(
        strncmp(name, "GPU-", 4) ? "nvmlDeviceGetHandleByPciBusId_v2" : "nvmlDeviceGetHandleByUUID"))(name, device);
}

static void lost(const char *name, nvmlReturn_t result) {
    printf("Unable to determine the device handle for GPU%s: %s.%s\n", name, smi_error(result),
           result == NVML_ERROR_GPU_IS_LOST ? "  Reboot the system to recover this GPU" : "");
    exit((int)result);
}

unsigned int smi_all(nvmlDevice_t *out, unsigned int max) {
    char name[SMI_TEXT];
    nvmlReturn_t result;
    unsigned int count = 0;
    if (selection) {
        char *copy = strdup(selection);
        for (char *at = strtok(copy, ","); at && count < max; at = strtok(NULL, ","))
            if ((result = handle_of(at, &out[count++])) != NVML_SUCCESS) lost(at, result);
        free(copy);
        return count;
    }
    for (; count < smi_count() && count < max; count++) {
        snprintf(name, sizeof name, "%u", count);
        if ((result = smi_handle(count, &out[count])) != NVML_SUCCESS) lost(name, result);
    }
    return count;
}

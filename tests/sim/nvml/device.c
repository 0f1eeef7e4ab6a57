/* Who a device is: name, UUID, numbers, capability, modes. */
#include <stdio.h>
#include <string.h>

#include "entry.h"

#define STRING(function, key) \
    ENTRY(function, AT_DEVICE(device), (nvmlDevice_t device, char *out, unsigned int length), (device, out, length)) { \
        return sim_get_string(device, key, out, length); \
    }
#define FLAG(function, key) \
    ENTRY(function, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *out), (device, out)) { \
        return sim_get_flag(device, key, out); \
    }
#define WORD(function, key, words) \
    ENTRY(function, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *out), (device, out)) { \
        return sim_get_word(device, key, words, out); \
    }

static const struct sim_word brands[] = {{"Unknown", 0},    {"Quadro", 1},      {"Tesla", 2}, {"GeForce", 5},
                                         {"Titan", 6},      {"Quadro RTX", 12}, {"NVIDIA RTX", 13},
                                         {"NVIDIA", 14},    {"GeForce RTX", 15}, {0}};
static const struct sim_word architectures[] = {{"Kepler", 2}, {"Maxwell", 3}, {"Pascal", 4}, {"Volta", 5},
                                                {"Turing", 6}, {"Ampere", 7},  {"Ada", 8},    {"Hopper", 9},
                                                {"Blackwell", 10}, {0}};
static const struct sim_word compute_modes[] = {
    {"Default", 0}, {"Exclusive_Thread", 1}, {"Prohibited", 2}, {"Exclusive_Process", 3}, {0}};

STRING(nvmlDeviceGetSerial, "serial")
STRING(nvmlDeviceGetVbiosVersion, "vbios_version")
STRING(nvmlDeviceGetBoardPartNumber, "board_part_number")
STRING(nvmlDeviceGetInforomImageVersion, "inforom_image_version")
// No length among its arguments, unlike the others: nvml.h wants room for NVML_GSP_FIRMWARE_VERSION_BUF_SIZE bytes.
ENTRY(nvmlDeviceGetGspFirmwareVersion, AT_DEVICE(device), (nvmlDevice_t device, char *version), (device, version)) {
    return sim_get_string(device, "gsp_firmware_version", version, 0x40);
}
ENTRY_UINT(nvmlDeviceGetMinorNumber, "minor")
ENTRY_UINT(nvmlDeviceGetBoardId, "board_id")
ENTRY_UINT(nvmlDeviceGetMultiGpuBoard, "multi_gpu_board")
ENTRY_UINT(nvmlDeviceGetModuleId, "module_id")
ENTRY_UINT(nvmlDeviceGetNumGpuCores, "cuda_cores")
ENTRY_UINT(nvmlDeviceGetMemoryBusWidth, "memory_bus_width")
FLAG(nvmlDeviceGetPersistenceMode, "persistence_mode")
FLAG(nvmlDeviceGetDisplayMode, "display_mode")
FLAG(nvmlDeviceGetDisplayActive, "display_active")
FLAG(nvmlDeviceGetAccountingMode, "accounting_mode")
WORD(nvmlDeviceGetBrand, "brand", brands)
WORD(nvmlDeviceGetArchitecture, "architecture", architectures)
WORD(nvmlDeviceGetComputeMode, "compute_mode", compute_modes)

ENTRY(nvmlDeviceGetIndex, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *index), (device, index)) {
    struct sim_call call;
    if (!index) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    *index = (unsigned int)sim_visible_index(call.state, call.gpu_number);
    return sim_leave(NVML_SUCCESS);
}

/* "NVIDIA H100 80GB HBM3", and "NVIDIA H100 80GB HBM3 MIG 1g.10gb" for a MIG device. */
ENTRY(nvmlDeviceGetName, AT_DEVICE(device),
      (nvmlDevice_t device, char *name, unsigned int length), (device, name, length)) {
    struct sim_call call;
    char full[256];
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    const char *gpu = sim_value(call.gpu, "name");
    snprintf(full, sizeof full, "%s%s%s", gpu ? gpu : "NVIDIA GPU", call.is_mig ? " MIG " : "",
             call.is_mig ? call.mig.profile : "");
    return sim_leave(sim_copy(full, name, length));
}

ENTRY(nvmlDeviceGetUUID, AT_DEVICE(device),
      (nvmlDevice_t device, char *uuid, unsigned int length), (device, uuid, length)) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(sim_copy(call.is_mig ? call.mig.uuid : sim_value(call.gpu, "uuid"), uuid, length));
}

ENTRY(nvmlDeviceGetCudaComputeCapability, AT_DEVICE(device),
      (nvmlDevice_t device, int *major, int *minor), (device, major, minor)) {
    char text[32];
    if (!major || !minor) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_string(device, "compute_capability", text, sizeof text);
    if (result != NVML_SUCCESS) return result;
    return sscanf(text, "%d.%d", major, minor) == 2 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

/* InfoROM objects, in NVML's order: OEM, ECC, power. */
ENTRY(nvmlDeviceGetInforomVersion, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int object, char *out, unsigned int length), (device, object, out, length)) {
    static const char *const keys[] = {"inforom_oem", "inforom_ecc", "inforom_power"};
    if (object >= sizeof keys / sizeof *keys) return NVML_ERROR_INVALID_ARGUMENT;
    return sim_get_string(device, keys[object], out, length);
}

ENTRY(nvmlDeviceGetGspFirmwareMode, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *enabled, unsigned int *by_default), (device, enabled, by_default)) {
    char version[64];
    if (!enabled || !by_default) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_string(device, "gsp_firmware_version", version, sizeof version);
    if (result != NVML_SUCCESS && result != NVML_ERROR_NOT_SUPPORTED) return result;
    *enabled = *by_default = result == NVML_SUCCESS;
    return NVML_SUCCESS;
}

/* 0 bare metal, 1 passed through to a virtual machine, 2 vGPU. */
ENTRY(nvmlDeviceGetVirtualizationMode, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *mode), (device, mode)) {
    static const struct sim_word modes[] = {{"None", 0}, {"Pass-Through", 1}, {"VGPU", 2}, {0}};
    return sim_get_word(device, "virtualization_mode", modes, mode);
}

ENTRY(nvmlDeviceOnSameBoard, AT_DEVICE(one), (nvmlDevice_t one, nvmlDevice_t other, int *same), (one, other, same)) {
    unsigned int a, b;
    if (!same) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_uint(one, "board_id", &a);
    if (result == NVML_SUCCESS) result = sim_get_uint(other, "board_id", &b);
    if (result == NVML_SUCCESS) *same = a == b;
    return result;
}

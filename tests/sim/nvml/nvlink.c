/* NVLink: lines `link = id=… remote=<gpu>|switch|none state=on|off`, and what a fabric reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"
#include "entry.h"

#define SWITCH_DEVICE_ID 0x22A310DEu /* NVSwitch, third generation */

enum { REMOTE_GPU = 0, REMOTE_SWITCH = 2, REMOTE_UNKNOWN = 0xFF };

static const char *link_line(const struct sim_section *gpu, unsigned int link) {
    return link < SIM_MAX_LINKS ? gpu->links[link] : NULL;
}

static bool active(const char *line) {
    char state[8];
    return sim_field(line, "state", state, sizeof state) && !strcmp(state, "on");
}

/* Hold the lock and give the link's line; links that the board does not have are an invalid argument. */
static nvmlReturn_t enter_link(nvmlDevice_t device, unsigned int link, struct sim_call *call, const char **line) {
    nvmlReturn_t result = sim_enter(device, call);
    if (result != NVML_SUCCESS) return result;
    if (!link_line(call->gpu, 0) || call->is_mig) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    *line = link_line(call->gpu, link);
    return *line ? NVML_SUCCESS : sim_leave(NVML_ERROR_INVALID_ARGUMENT);
}

ENTRY(nvmlDeviceGetNvLinkState, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int link, unsigned int *state), (device, link, state)) {
    struct sim_call call;
    const char *line;
    if (!state) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_link(device, link, &call, &line);
    if (result != NVML_SUCCESS) return result;
    *state = active(line);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetNvLinkVersion, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int link, unsigned int *version), (device, link, version)) {
    unsigned int state;
    nvmlReturn_t result = nvmlDeviceGetNvLinkState(device, link, &state);
    return result == NVML_SUCCESS ? sim_get_uint(device, "nvlink_version", version) : result;
}

/* Peer-to-peer, access to system memory, atomics on both, a bridge, and whether the link is valid. */
ENTRY(nvmlDeviceGetNvLinkCapability, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int link, unsigned int capability, unsigned int *out),
      (device, link, capability, out)) {
    static const unsigned int has[] = {1, 1, 1, 1, 0, 1};
    struct sim_call call;
    const char *line;
    if (!out || capability >= sizeof has / sizeof *has) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_link(device, link, &call, &line);
    if (result != NVML_SUCCESS) return result;
    *out = active(line) ? has[capability] : 0;
    return sim_leave(NVML_SUCCESS);
}

static bool remote_pci(const struct sim_state *state, const char *remote, struct sim_pci *pci) {
    char *end;
    long gpu = strtol(remote, &end, 10);
    if (!strcmp(remote, "switch")) {
        *pci = (struct sim_pci){.bus = 0x05, .device_id = SWITCH_DEVICE_ID};
        return true;
    }
    if (end == remote || *end || gpu < 0 || gpu >= SIM_MAX_GPUS || !state->gpus[gpu]) return false;
    return sim_pci_of(state->gpus[gpu], pci);
}

ENTRY(nvmlDeviceGetNvLinkRemotePciInfo_v2, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *out), (device, link, out)) {
    struct sim_call call;
    struct sim_pci pci;
    char remote[16];
    const char *line;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_link(device, link, &call, &line);
    if (result != NVML_SUCCESS) return result;
    if (!active(line)) return sim_leave(NVML_ERROR_NOT_SUPPORTED); /* nobody answers at the other end */
    if (!sim_field(line, "remote", remote, sizeof remote) || !remote_pci(call.state, remote, &pci))
        return sim_leave(NVML_ERROR_UNKNOWN);
    sim_pci_fill(&pci, out);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetNvLinkRemoteDeviceType, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int link, unsigned int *type), (device, link, type)) {
    struct sim_call call;
    char remote[16];
    const char *line;
    if (!type) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_link(device, link, &call, &line);
    if (result != NVML_SUCCESS) return result;
    *type = REMOTE_UNKNOWN;
    if (active(line) && sim_field(line, "remote", remote, sizeof remote))
        *type = strcmp(remote, "switch") ? REMOTE_GPU : REMOTE_SWITCH;
    return sim_leave(NVML_SUCCESS);
}

/* Counters stand in the link's line under NVML's names: replay, recovery, crc_flit, crc_data, ecc_data. */
ENTRY(nvmlDeviceGetNvLinkErrorCounter, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int link, unsigned int counter, unsigned long long *value),
      (device, link, counter, value)) {
    static const char *const names[] = {"replay", "recovery", "crc_flit", "crc_data", "ecc_data"};
    struct sim_call call;
    const char *line;
    if (!value || counter >= sizeof names / sizeof *names) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_link(device, link, &call, &line);
    if (result != NVML_SUCCESS) return result;
    *value = sim_field_number(line, names[counter], 0);
    return sim_leave(NVML_SUCCESS);
}

static bool linked(const struct sim_state *state, int a, int b) {
    char remote[16], wanted[16];
    snprintf(wanted, sizeof wanted, "%d", b);
    for (unsigned int link = 0; link < SIM_MAX_LINKS; link++) {
        const char *line = link_line(state->gpus[a], link);
        if (!line || !active(line) || !sim_field(line, "remote", remote, sizeof remote)) continue;
        if (!strcmp(remote, wanted)) return true;
        if (!strcmp(remote, "switch") && link_line(state->gpus[b], 0)) return true;
    }
    return false;
}

/* Capability 2 is NVLink; the others work between any two GPUs here. */
ENTRY(nvmlDeviceGetP2PStatus, AT_DEVICE(one),
      (nvmlDevice_t one, nvmlDevice_t other, unsigned int capability, unsigned int *status),
      (one, other, capability, status)) {
    struct sim_call call;
    if (!status || capability > 4) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(one, &call);
    if (result != NVML_SUCCESS) return result;
    int first = call.gpu_number;
    sim_leave(NVML_SUCCESS);
    result = sim_enter(other, &call);
    if (result != NVML_SUCCESS) return result;
    if (first == call.gpu_number || !call.state->gpus[first]) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    *status = capability != 2 || linked(call.state, first, call.gpu_number) ? 0 : 5; /* OK : not supported */
    return sim_leave(NVML_SUCCESS);
}

/* `fabric = state=completed clique=1 cluster=<32 hex digits>`; only boards in an NVLink domain have one. */
static nvmlReturn_t fabric(nvmlDevice_t device, nvmlGpuFabricInfo_t *out) {
    char text[256], word[48];
    nvmlReturn_t result = sim_get_string(device, "fabric", text, sizeof text);
    if (result != NVML_SUCCESS) return result;
    memset(out, 0, sizeof *out);
    out->cliqueId = (unsigned int)sim_field_number(text, "clique", 0);
    if (sim_field(text, "state", word, sizeof word))
        out->state = !strcmp(word, "completed") ? 3 : !strcmp(word, "in-progress") ? 2 : 1;
    if (sim_field(text, "cluster", word, sizeof word))
        for (int i = 0; i < 16 && strlen(word) == 32; i++) sscanf(word + 2 * i, "%2hhx", &out->clusterUuid[i]);
    return NVML_SUCCESS;
}

ENTRY(nvmlDeviceGetGpuFabricInfo, AT_DEVICE(device), (nvmlDevice_t device, nvmlGpuFabricInfo_t *out), (device, out)) {
    return out ? fabric(device, out) : NVML_ERROR_INVALID_ARGUMENT;
}

ENTRY(nvmlDeviceGetGpuFabricInfoV, AT_DEVICE(device),
      (nvmlDevice_t device, nvmlGpuFabricInfo_v2_t *out), (device, out)) {
    nvmlGpuFabricInfo_t info;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != NVML_STRUCT_VERSION(nvmlGpuFabricInfo_v2_t, 2)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = fabric(device, &info);
    if (result != NVML_SUCCESS) return result;
    memcpy(out->clusterUuid, info.clusterUuid, sizeof out->clusterUuid);
    out->status = info.status;
    out->cliqueId = info.cliqueId;
    out->state = info.state;
    out->healthMask = 0;
    return NVML_SUCCESS;
}

/* `nvidia-smi nvlink -s`, `nvidia-smi nvlink -p` and `nvidia-smi topo -m`. */
#include <stdio.h>
#include <string.h>

#include "smi.h"

#define MAX_GPUS 64
#define MAX_LINKS 36

enum { FI_LINK_SPEED = 164, REMOTE_SWITCH = 2 };

static nvmlReturn_t link_state(nvmlDevice_t device, unsigned int link, unsigned int *up) {
    return ((nvmlReturn_t(*)(nvmlDevice_t, unsigned int, unsigned int *))smi_function("nvmlDeviceGetNvLinkState"))(
        device, link, up);
}

static bool remote(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned int, nvmlPciInfo_t *) =
        smi_function("nvmlDeviceGetNvLinkRemotePciInfo_v2");
    return get(device, link, pci) == NVML_SUCCESS;
}

static unsigned int speed(nvmlDevice_t device, unsigned int link) {
    nvmlFieldValue_t value = {.fieldId = FI_LINK_SPEED, .scopeId = link};
    nvmlReturn_t (*get)(nvmlDevice_t, int, nvmlFieldValue_t *) = smi_function("nvmlDeviceGetFieldValues");
    return get(device, 1, &value) == NVML_SUCCESS && value.nvmlReturn == NVML_SUCCESS ? value.value.uiVal : 0;
}

static void head(unsigned int index, nvmlDevice_t device) {
    char name[SMI_TEXT], uuid[SMI_TEXT];
    smi_text("name", device, name);
    smi_text("uuid", device, uuid);
    printf("GPU %u: %s (UUID: %s)\n", index, name, uuid);
}

int smi_nvlink(bool ends) {
    nvmlDevice_t devices[MAX_GPUS];
    unsigned int count = smi_all(devices, MAX_GPUS), up;
    for (unsigned int i = 0; i < count; i++) {
        head(i, devices[i]);
        if (link_state(devices[i], 0, &up) != NVML_SUCCESS) {
            puts("Device does not have or support Nvlink");
            continue;
        }
        for (unsigned int link = 0; link < MAX_LINKS && link_state(devices[i], link, &up) == NVML_SUCCESS; link++) {
            nvmlPciInfo_t pci;
            unsigned int mbps = speed(devices[i], link);
            if (ends && up && remote(devices[i], link, &pci)) printf("\t Link %u: %s\n", link, pci.busId);
            else if (ends) continue;
            else if (up) printf("\t Link %u: %u.%03u GB/s\n", link, mbps / 1000, mbps % 1000);
            else printf("\t Link %u: <inactive>\n", link);
        }
    }
    return 0;
}

/* Links that lead straight to the other GPU; else those of both that lead to a switch. */
static unsigned int links_between(nvmlDevice_t one, nvmlDevice_t other) {
    nvmlReturn_t (*kind_of)(nvmlDevice_t, unsigned int, unsigned int *) =
        smi_function("nvmlDeviceGetNvLinkRemoteDeviceType");
    nvmlDevice_t both[] = {one, other};
    unsigned int direct = 0, switched[2] = {0, 0}, up, kind;
    char address[SMI_TEXT];
    nvmlPciInfo_t pci;
    smi_text("pci.bus_id", other, address);
    for (int side = 0; side < 2; side++)
        for (unsigned int link = 0; link < MAX_LINKS && link_state(both[side], link, &up) == NVML_SUCCESS; link++) {
            if (!up) continue;
            if (kind_of(both[side], link, &kind) == NVML_SUCCESS && kind == REMOTE_SWITCH) switched[side]++;
            else if (side == 0 && remote(one, link, &pci) && !strcmp(pci.busId, address)) direct++;
        }
    return direct ? direct : switched[0] < switched[1] ? switched[0] : switched[1];
}

static void cell(nvmlDevice_t one, nvmlDevice_t other) {
    nvmlReturn_t (*ancestor)(nvmlDevice_t, nvmlDevice_t, unsigned int *) =
        smi_function("nvmlDeviceGetTopologyCommonAncestor");
    static const char *const words[] = {"PIX", "PIX", "PXB", "PHB", "NODE", "SYS"};
    unsigned int links = links_between(one, other), level;
    if (links) printf("\tNV%u", links);
    else if (ancestor(one, other, &level) == NVML_SUCCESS && level <= 50) printf("\t%s", words[level / 10]);
    else fputs("\tN/A", stdout);
}

int smi_topology(void) {
    nvmlDevice_t devices[MAX_GPUS];
    unsigned int count = smi_all(devices, MAX_GPUS);
    fputs("\t\x1b[4m", stdout); /* the real one underlines its header, terminal or not */
    for (unsigned int i = 0; i < count; i++) printf("%sGPU%u", i ? "\t" : "", i);
    puts("\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m");
    for (unsigned int i = 0; i < count; i++) {
        printf("GPU%u", i);
        for (unsigned int j = 0; j < count; j++)
            if (i == j) fputs("\t X ", stdout);
            else cell(devices[i], devices[j]);
        puts("\t0-31\t0\t\tN/A");
    }
    puts("\nLegend:\n\n  X    = Self\n  SYS  = Connection traversing PCIe as well as the interconnect between NUMA nodes");
    puts("  NV#  = Connection traversing a bonded set of # NVLinks");
    return 0;
}

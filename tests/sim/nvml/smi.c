/* A stand-in for nvidia-smi: -L, -q [-x], --query-gpu=… --format=csv[,noheader][,nounits], nvlink -s|-p, topo -m, the
 * table, and -i for all of them.
 * Messages and exit statuses (NVML's error numbers) are those of the real one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smi.h"

static int no_library(void) {
    puts("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display "
         "Driver is properly installed and present in your system.\nPlease also try adding directory that contains "
         "libnvidia-ml.so to your system PATH.");
    return 12;
}

static int init_failed(nvmlReturn_t result) {
    char version[SMI_TEXT];
    if (result == NVML_ERROR_DRIVER_NOT_LOADED) {
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
             "NVIDIA driver is installed and running.\n");
        return (int)result;
    }
    printf("Failed to initialize NVML: %s\n", smi_error(result));
    if (result == NVML_ERROR_LIB_RM_VERSION_MISMATCH && smi_system("nvml_version", version))
        printf("NVML library version: %s\n", strchr(version, '.') ? strchr(version, '.') + 1 : version);
    return (int)result;
}

struct options {
    bool list, query, xml, link_states, link_ends, topology;
    const char *fields, *format;
};

static int usage(const char *option) {
    printf("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help: %s\n", option);
    return 2;
}

static bool is(int count, char **arguments, const char *command, const char *option) {
    return count >= 3 && !strcmp(arguments[1], command) && !strcmp(arguments[2], option);
}

static int parse(int count, char **arguments, struct options *out) {
    out->link_states = is(count, arguments, "nvlink", "-s");
    out->link_ends = is(count, arguments, "nvlink", "-p");
    out->topology = is(count, arguments, "topo", "-m");
    bool command = out->link_states || out->link_ends || out->topology;
    for (int i = command ? 3 : 1; i < count; i++) {
        const char *at = arguments[i];
        if (!strcmp(at, "-i") && i + 1 < count) smi_select(arguments[++i]);
        else if (command) return usage(at);
        else if (!strcmp(at, "-L") || !strcmp(at, "--list-gpus")) out->list = true;
        else if (!strcmp(at, "-q") || !strcmp(at, "--query")) out->query = true;
        else if (!strcmp(at, "-x") || !strcmp(at, "--xml-format")) out->xml = true;
        else if (!strncmp(at, "--query-gpu=", 12)) out->fields = at + 12;
        else if (!strncmp(at, "--format=", 9)) out->format = at + 9;
        else return usage(at);
    }
    if (out->fields && (!out->format || strncmp(out->format, "csv", 3))) return usage("--query-gpu needs --format=csv");
    return 0;
}

int main(int count, char **arguments) {
    struct options options = {0};
    int status = parse(count, arguments, &options);
    if (status) return status;
    if (!smi_open()) return no_library();
    nvmlReturn_t result = smi_init();
    if (result != NVML_SUCCESS) return init_failed(result);
    if (smi_count() == 0) {
        puts("No devices were found");
        return NVML_ERROR_NOT_FOUND;
    }
    if (options.link_states || options.link_ends) return smi_nvlink(options.link_ends);
    if (options.topology) return smi_topology();
    if (options.list) return smi_list();
    if (options.query) return options.xml ? smi_xml() : smi_query();
    if (options.fields)
        return smi_csv(options.fields, !strstr(options.format, "noheader"), !strstr(options.format, "nounits"));
    return smi_table();
}

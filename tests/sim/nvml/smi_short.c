/* `nvidia-smi -L`, the table, and `--query-gpu=… --format=csv`. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "smi.h"

#define MAX_GPUS 64
#define MAX_FIELDS 128

int smi_list(void) {
    nvmlDevice_t devices[MAX_GPUS], mig;
    char name[SMI_TEXT], uuid[SMI_TEXT], mig_name[SMI_TEXT];
    unsigned int count = smi_all(devices, MAX_GPUS);
    for (unsigned int i = 0; i < count; i++) {
        smi_text("name", devices[i], name);
        smi_text("uuid", devices[i], uuid);
        printf("GPU %u: %s (UUID: %s)\n", i, name, uuid);
        for (unsigned int j = 0; smi_mig_handle(devices[i], j, &mig); j++) {
            smi_text("name", mig, mig_name);
            smi_text("uuid", mig, uuid);
            /* the device's own name is the GPU's, then "MIG" and the profile */
            printf("  %-15s Device %2u: (UUID: %s)\n", mig_name + strlen(name) + 1, j, uuid);
        }
    }
    return 0;
}

static unsigned int split(char *fields, const struct smi_fact **out, char **names) {
    unsigned int count = 0;
    for (char *at = strtok(fields, ","); at && count < MAX_FIELDS; at = strtok(NULL, ",")) {
        while (*at == ' ') at++;
        names[count] = at;
        out[count] = smi_fact_find(at);
        if (!out[count]) {
            printf("Field \"%s\" is not a valid field to query.\n\n", at);
            exit(NVML_ERROR_INVALID_ARGUMENT);
        }
        count++;
    }
    return count;
}

static void cell(const struct smi_fact *fact, nvmlDevice_t device, bool units) {
    char value[SMI_TEXT];
    const char *unit = smi_fact_unit(fact);
    if (!smi_fact_read(fact, device, value)) printf("[%s]", smi_absence());
    else printf("%s%s%s", value, units && *unit ? " " : "", units ? unit : "");
}

int smi_csv(const char *fields, bool header, bool units) {
    nvmlDevice_t devices[MAX_GPUS];
    const struct smi_fact *facts[MAX_FIELDS];
    char *names[MAX_FIELDS], *copy = strdup(fields);
    unsigned int columns = split(copy, facts, names), count = smi_all(devices, MAX_GPUS);
    for (unsigned int i = 0; header && i < columns; i++) {
        const char *unit = smi_fact_unit(facts[i]);
        printf("%s%s%s%s%s", names[i], *unit ? " [" : "", unit, *unit ? "]" : "", i + 1 < columns ? ", " : "\n");
    }
    for (unsigned int i = 0; i < count; i++)
        for (unsigned int j = 0; j < columns; j++) {
            cell(facts[j], devices[i], units);
            fputs(j + 1 < columns ? ", " : "\n", stdout);
        }
    free(copy);
    return 0;
}

static void row(nvmlDevice_t device, unsigned int index) {
    char a[SMI_TEXT], b[SMI_TEXT], c[SMI_TEXT], d[SMI_TEXT], left[96];
    smi_text("name", device, a);
    smi_text("persistence_mode", device, b);
    smi_text("pci.bus_id", device, c);
    smi_text("ecc.errors.uncorrected.volatile.total", device, d);
    printf("| %3u  %-25.25s %8s |   %-16s %3s | %20s |\n", index, a, !strcmp(b, "Enabled") ? "On" : "Off", c, "Off", d);
    smi_text("fan.speed", device, a);
    smi_text("temperature.gpu", device, b);
    smi_text("pstate", device, c);
    a[strcspn(a, " ")] = b[strcspn(b, " ")] = '\0';
    smi_text("power.draw", device, d);
    int watts = (int)strtod(d, NULL);
    smi_text("power.limit", device, d);
    snprintf(left, sizeof left, " %-4.4s %3.3sC    %-4.4s         %4dW / %4dW", a, b, c, watts, (int)strtod(d, NULL));
    smi_text("memory.used", device, a);
    smi_text("memory.total", device, b);
    smi_text("utilization.gpu", device, c);
    smi_text("compute_mode", device, d);
    a[strcspn(a, " ")] = b[strcspn(b, " ")] = '\0';
    if (!isdigit((unsigned char)*a)) strcpy(a, "N/A"); /* the table has no space for reasons */
    if (!isdigit((unsigned char)*b)) strcpy(b, "N/A");
    printf("|%-41.41s|%8sMiB / %6sMiB | %6s %13s |\n", left, a, b, c, d);
    smi_text("mig.mode.current", device, a);
    printf("|%41s|%24s| %20s |\n", "", "", a);
    puts("+-----------------------------------------+------------------------+----------------------+");
}

int smi_table(void) {
    nvmlDevice_t devices[MAX_GPUS];
    char driver[SMI_TEXT], cuda[SMI_TEXT], text[SMI_TEXT];
    time_t seconds = time(NULL);
    struct tm local;
    unsigned int count = smi_all(devices, MAX_GPUS);
    strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", localtime_r(&seconds, &local));
    smi_system("driver_version", driver);
    smi_system("cuda_version", cuda);
    printf("%s\n", text);
    puts("+-----------------------------------------------------------------------------------------+");
    printf("| NVIDIA-SMI %-22.22s Driver Version: %-14.14s CUDA Version: %-8.8s |\n", driver, driver, cuda);
    puts("|-----------------------------------------+------------------------+----------------------+");
    puts("| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |");
    puts("| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |");
    puts("|                                         |                        |               MIG M. |");
    puts("|=========================================+========================+======================|");
    for (unsigned int i = 0; i < count; i++) row(devices[i], i);
    return 0;
}

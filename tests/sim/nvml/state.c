/* The state file: `[section]` lines, `key = value` lines, `#` comments. Keys may repeat (links, instances, processes). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sim.h"

static struct sim_state current;
static bool readable;
static struct stat seen;

const char *sim_state_path(void) {
    const char *path = getenv("NVML_SIM_STATE");
    return path && *path ? path : "/etc/nvml-sim/state";
}

static void clear(struct sim_state *state) {
    for (int i = 0; i < state->count; i++) {
        struct sim_section *section = &state->sections[i];
        for (int j = 0; j < section->count; j++) {
            free(section->pairs[j].key);
            free(section->pairs[j].value);
        }
        free(section->pairs);
        free(section->name);
    }
    free(state->sections);
    memset(state, 0, sizeof *state);
}

static char *trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    return text;
}

static bool add_section(struct sim_state *state, const char *name) {
    struct sim_section *grown = realloc(state->sections, (state->count + 1) * sizeof *grown);
    if (!grown) return false;
    state->sections = grown;
    grown[state->count] = (struct sim_section){.name = strdup(name)};
    state->count++;
    return true;
}

static bool add_pair(struct sim_section *section, const char *key, const char *value) {
    struct sim_pair *grown = realloc(section->pairs, (section->count + 1) * sizeof *grown);
    if (!grown) return false;
    section->pairs = grown;
    grown[section->count++] = (struct sim_pair){.key = strdup(key), .value = strdup(value)};
    return true;
}

static bool add_line(struct sim_state *state, char *line) {
    if (!*line || *line == '#') return true;
    size_t length = strlen(line);
    if (*line == '[') {
        if (line[length - 1] != ']') return false;
        line[length - 1] = '\0';
        return add_section(state, trim(line + 1));
    }
    char *equals = strchr(line, '=');
    if (!equals || state->count == 0) return false;
    *equals = '\0';
    return add_pair(&state->sections[state->count - 1], trim(line), trim(equals + 1));
}

static void index_sections(struct sim_state *state) {
    for (int i = 0; i < state->count; i++) {
        struct sim_section *section = &state->sections[i];
        int gpu, end = 0;
        if (!strcmp(section->name, "system")) state->system = section;
        else if (!strcmp(section->name, "topology")) state->topology = section;
        else if (sscanf(section->name, "gpu %d%n", &gpu, &end) == 1 && !section->name[end] && gpu >= 0 &&
                 gpu < SIM_MAX_GPUS)
            state->gpus[gpu] = section;
    }
}

static bool parse(FILE *file, struct sim_state *state) {
    char *line = NULL;
    size_t size = 0;
    int number = 0;
    bool good = true;
    while (good && getline(&line, &size, file) >= 0) {
        number++;
        if (!add_line(state, trim(line))) {
            fprintf(stderr, "nvml-sim: %s:%d: want [section], key = value or # comment\n", sim_state_path(), number);
            good = false;
        }
    }
    free(line);
    if (good) index_sections(state); /* only now: sections move while the array grows */
    return good && state->system;
}

static bool unchanged(const struct stat *now) {
    return readable && now->st_ino == seen.st_ino && now->st_dev == seen.st_dev && now->st_size == seen.st_size &&
           now->st_mtim.tv_sec == seen.st_mtim.tv_sec && now->st_mtim.tv_nsec == seen.st_mtim.tv_nsec;
}

const struct sim_state *sim_state_refresh(void) {
    struct stat now;
    if (stat(sim_state_path(), &now) != 0) {
        readable = false;
        return NULL;
    }
    if (unchanged(&now)) return &current;
    FILE *file = fopen(sim_state_path(), "re");
    if (!file) {
        readable = false;
        return NULL;
    }
    struct sim_state next = {0};
    bool good = fstat(fileno(file), &now) == 0 && parse(file, &next);
    fclose(file);
    clear(good ? &current : &next);
    readable = good;
    if (!good) return NULL;
    current = next;
    seen = now;
    return &current;
}

const char *sim_value(const struct sim_section *section, const char *key) {
    for (int i = 0; section && i < section->count; i++)
        if (!strcmp(section->pairs[i].key, key)) return section->pairs[i].value;
    return NULL;
}

bool sim_flag(const struct sim_section *section, const char *key, bool fallback) {
    const char *value = sim_value(section, key);
    if (!value) return fallback;
    return !strcmp(value, "on") || !strcmp(value, "yes") || !strcmp(value, "1");
}

bool sim_number(const char *text, unsigned long long *out) {
    if (!text || !isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    return errno == 0 && *end == '\0';
}
